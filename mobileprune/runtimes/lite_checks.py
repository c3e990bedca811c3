"""What the records of a TorchScript-lite archive may say, read off them before PyTorch's lite interpreter uses them."""

from __future__ import annotations

import pickletools
from pathlib import Path
from zipfile import ZipFile

from mobileprune.errors import ArtifactError, one_line
from mobileprune.runtimes import lite_bytecode
from mobileprune.runtimes.lite_pickle import CorruptError, value

MODEL, BYTECODE = "data.pkl", "bytecode.pkl"


def check_sizes(path: Path) -> None:
    """ArtifactError where a pickle asks for more than it holds.

    The interpreter makes room for a text, or for its memo, as large as a pickle says.
    """
    for name, record in _pickles(path).items():
        try:
            for opcode, argument, _ in pickletools.genops(record):  # lists what is there and runs nothing
                if opcode.name.endswith("PUT") and argument is not None and argument > len(record):
                    raise CorruptError(f"place {argument} of a memo")
        except Exception as error:  # what it raises for bytes that are no pickle has no common base
            raise _corrupt(path, name, error) from error


def check_uses(path: Path) -> None:
    """ArtifactError unless all tensors lie in their records, and ``forward`` uses only what is there."""
    with ZipFile(path) as archive:
        records = {info.filename.partition("/")[2]: info.file_size for info in archive.infolist()}
    old = any(name.startswith("bytecode/") for name in records)  # bytecode 4 and before
    folders = {MODEL: "data/", BYTECODE: "bytecode/" if old else "constants/"}
    pickles, values, name = _pickles(path), {}, MODEL
    try:
        for name, folder in folders.items():
            sizes = {key.removeprefix(folder): size for key, size in records.items() if key.startswith(folder)}
            values[name] = value(pickles[name], sizes)
        lite_bytecode.verify(lite_bytecode.forward(values[BYTECODE]), values[MODEL])
    except Exception as error:  # values of a wrong kind are no rarer than wrong ones
        raise _corrupt(path, name, error) from error


def _pickles(path: Path) -> dict[str, bytes]:
    """Name in the archive's folder -> pickle. ArtifactError where it is not clear which record a name means."""
    with ZipFile(path) as archive:
        names = archive.namelist()
        if len(set(names)) < len(names) or len({name.partition("/")[0] for name in names}) > 1:
            raise ArtifactError(f"{path}: corrupt TorchScript-lite file (records of one name); export again")
        return {name.partition("/")[2]: archive.read(name) for name in names if name.endswith(".pkl")}


def _corrupt(path: Path, name: str, error: Exception) -> ArtifactError:
    return ArtifactError(f"{path}: corrupt record {name} ({one_line(error, kind=True)}); export again")
