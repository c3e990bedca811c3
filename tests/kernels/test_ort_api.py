"""Our declarations of ONNX Runtime's C interface against its own header, and what the built library shows of itself."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLACES = ("/usr/include/onnxruntime", "/usr/local/include/onnxruntime", "/opt/homebrew/include/onnxruntime")
"""Where packages of distributions put the header; ``ONNXRUNTIME_INCLUDE_DIR`` comes first."""
MAX_BYTES = 200_000
STRUCTS = {
    ("ort_op", "OrtCustomOp"): {
        "version": "version",
        "create_v1": "CreateKernel",
        "name": "GetName",
        "provider": "GetExecutionProviderType",
        "input_type": "GetInputType",
        "input_count": "GetInputTypeCount",
        "output_type": "GetOutputType",
        "output_count": "GetOutputTypeCount",
        "compute_v1": "KernelCompute",
        "destroy": "KernelDestroy",
        "input_kind": "GetInputCharacteristic",
        "output_kind": "GetOutputCharacteristic",
        "input_memory": "GetInputMemoryType",
        "input_arity": "GetVariadicInputMinArity",
        "input_same": "GetVariadicInputHomogeneity",
        "output_arity": "GetVariadicOutputMinArity",
        "output_same": "GetVariadicOutputHomogeneity",
        "create": "CreateKernelV2",
        "compute": "KernelComputeV2",
        "optional": "InferOutputShapeFn",
    },
    ("ort_allocator", "OrtAllocator"): {"version": "version", "alloc": "Alloc", "free": "Free"},
    ("ort_base", "OrtApiBase"): {"get_api": "GetApi"},
    ("ort_named_base", "OrtApiBase"): {"base": "GetApi", "version": "GetVersionString"},
}
VALUES = {
    "ORT_CODE_INVALID_ARGUMENT": "ORT_INVALID_ARGUMENT",
    "ORT_CODE_NOT_IMPLEMENTED": "ORT_NOT_IMPLEMENTED",
    "ORT_TYPE_FLOAT": "ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT",
    "ORT_LOG_FATAL": "ORT_LOGGING_LEVEL_FATAL",
    "ORT_ARENA_ALLOCATOR": "OrtArenaAllocator",
    "ORT_MEMORY_DEFAULT": "OrtMemTypeDefault",
    "0 /* required */": "INPUT_OUTPUT_REQUIRED",
    "0 /* the processor's memory */": "OrtMemTypeDefault",
}


@pytest.fixture(scope="module")
def header() -> Path:
    """The folder of ONNX Runtime's header."""
    for place in (os.environ.get("ONNXRUNTIME_INCLUDE_DIR"), *PLACES):
        if place and (Path(place) / "onnxruntime_c_api.h").is_file():
            return Path(place)
    pytest.skip("no onnxruntime_c_api.h: set ONNXRUNTIME_INCLUDE_DIR, or install the headers of ONNX Runtime")


def program(position_shift: int = 0) -> str:
    """C that compiles if ours and theirs agree."""
    same = [
        f'_Static_assert(offsetof({ours}, {a}) == offsetof({theirs}, {b}), "{ours}.{a}");'
        for (ours, theirs), fields in STRUCTS.items()
        for a, b in fields.items()
    ]
    same += [f'_Static_assert((int)({ours}) == (int)({theirs}), "{theirs}");' for ours, theirs in VALUES.items()]
    return "\n".join(
        [
            "#include <onnxruntime_c_api.h>",
            '#include "ort_session.h"',
            *same,
            '_Static_assert(ORT_API_VERSION_USED <= ORT_API_VERSION, "the header is older than what we use");',
            # a runtime of the version that we name may read all of its fields
            '_Static_assert(sizeof(ort_op) >= offsetof(OrtCustomOp, ReleaseAliasMap) + sizeof(void *), "too short");',
            "#define AT(position, gives, name, arguments) \\",
            f"  _Static_assert(offsetof(OrtApi, name) == ((position) + {position_shift}) * sizeof(void *), #name);",
            "ORT_ENTRIES(AT)",
            "ORT_SESSION_ENTRIES(AT)",
        ]
    )


def compiled(compiler: str, header: Path, sources: Path, text: str) -> subprocess.CompletedProcess[str]:
    ours = [f"-I{sources / folder}" for folder in ("onnxruntime", "runner")]
    argv = [compiler, "-std=c11", "-fsyntax-only", f"-I{header}", *ours, "-xc", "-"]
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=False)


def test_positions_and_layouts_are_those_of_the_header(compiler: str, header: Path, sources: Path) -> None:
    done = compiled(compiler, header, sources, program())
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_wrong_position_would_be_told(compiler: str, header: Path, sources: Path) -> None:
    done = compiled(compiler, header, sources, program(position_shift=1))
    text = "".join((sources / name).read_text() for name in ("onnxruntime/ort_api.h", "runner/ort_session.h"))
    entries = re.findall(r"E\((\d+),[^,]+,\s*(\w+),\s*\\?\s*\(", text)
    assert len(entries) > 40
    assert done.returncode != 0
    assert all(f'"{name}"' in done.stderr for _, name in entries)


def test_a_runtime_without_this_interface_is_told(library: Path, sources: Path) -> None:
    used = int(re.findall(r"ORT_API_VERSION_USED (\d+)", (sources / "onnxruntime" / "ort_api.h").read_text())[0])
    asked, said = [], []
    status = ctypes.create_string_buffer(1)

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
    def create_status(code: int, message: bytes) -> int:
        said.append((code, message.decode()))
        return ctypes.addressof(status)

    table = (ctypes.c_void_p * 1)(ctypes.cast(create_status, ctypes.c_void_p))

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
    def get_api(version: int) -> int | None:
        asked.append(version)
        return ctypes.addressof(table) if version < used else None

    register = ctypes.CDLL(str(library)).RegisterCustomOps
    register.restype, register.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p]
    base = (ctypes.c_void_p * 1)(ctypes.cast(get_api, ctypes.c_void_p))
    assert register(None, ctypes.addressof(base)) == ctypes.addressof(status)
    assert asked[0] == used
    assert said == [(9, f"mobileprune: needs ONNX Runtime 1.{used}; update it, or run without this library")]


def test_the_library_is_small(library: Path) -> None:
    assert library.stat().st_size < MAX_BYTES


@pytest.mark.skipif(sys.platform != "linux", reason="reads the table of symbols of an ELF file")
def test_the_library_exports_its_interface_alone(library: Path, sources: Path) -> None:
    tool = shutil.which("nm")
    if not tool:
        pytest.skip("no nm on PATH")
    listed = subprocess.run([tool, "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True)
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    text = "".join(path.read_text() for path in sources.glob("*/*.[ch]"))
    assert names == set(re.findall(r"^MP_API [^;{]*?\b(\w+)\(", text, re.MULTILINE))
    assert all(name.startswith("mp_") for name in names - {"RegisterCustomOps"})
