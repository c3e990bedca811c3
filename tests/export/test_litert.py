"""LiteRT files of pruned networks: they equal PyTorch, sparse ones are smaller, and nothing of the user's is inside."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from support.lint import findings
from support.pruned import PRUNED, images, pruned, relative_error
from torch import Tensor, nn

from mobileprune.errors import MobilepruneError
from mobileprune.export import TARGETS, ExportOptions, converter, litert
from mobileprune.export.litert import flatbuffer as tflite
from mobileprune.export.litert.sparse import compressed_rows
from mobileprune.export.target import Storage
from mobileprune.runtimes import RUNTIMES, RuntimeOptions

# Not importorskip: JAX, which litert-torch imports, must not live in a process that forks trials.
pytestmark = pytest.mark.skipif(converter.find_spec("litert_torch") is None, reason="litert-torch is not installed")
Written = dict[str, tuple[Path, Storage]]
Exported = Callable[[str], Written]


each_model = pytest.mark.parametrize("name", PRUNED)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Model -> form asked for -> file and storage; each is converted once."""

    @cache
    def written(name: str) -> Written:
        folder, made = tmp_path_factory.mktemp(name), {}
        for form in ("dense", "auto"):
            path = folder / f"{form}.tflite"
            made[form] = path, litert.write(pruned(name), PRUNED[name], path, ExportOptions(sparse_format=form))
        return made

    return written


def session(path: Path, shape: tuple[int, int, int]):
    return RUNTIMES["litert"](path, RuntimeOptions(1, "input", shape))


@pytest.mark.slow
@each_model
@pytest.mark.parametrize("form", ["dense", "auto"])
def test_answers_are_those_of_the_pytorch_model_at_any_batch(exported: Exported, name: str, form: str) -> None:
    run = session(exported(name)[form][0], PRUNED[name])
    for batch in (1, 2, 17, 1):
        x = images(batch, PRUNED[name])
        assert relative_error(run(x), pruned(name)(torch.tensor(x)).detach().numpy()) < 1e-4


@pytest.mark.slow
@each_model
def test_auto_takes_the_sparse_form_which_is_smaller_and_bit_identical(exported: Exported, name: str) -> None:
    (dense, _), (sparse, storage) = exported(name)["dense"], exported(name)["auto"]
    assert storage.form == "sparse"
    assert storage.why == "the smallest of dense, sparse with bit-identical answers"
    assert storage.sizes == {"dense": dense.stat().st_size, "sparse": sparse.stat().st_size}
    assert sparse.stat().st_size < 0.25 * dense.stat().st_size
    x = images(17, PRUNED[name])
    assert session(dense, PRUNED[name])(x).tobytes() == session(sparse, PRUNED[name])(x).tobytes()


@pytest.mark.slow
@each_model
def test_the_batch_is_free_and_nothing_of_the_converter_or_the_classes_is_left(exported: Exported, name: str) -> None:
    for path, _ in exported(name).values():
        content = path.read_bytes()
        assert findings(content) == []
        for word in (b"torch", b"MLIR", b"serving_default_", b"Sequential"):
            assert word not in content
        graph = tflite.read(content).subgraphs[0]
        assert list(graph.tensors[graph.inputs[0]].shapeSignature) == [-1, *PRUNED[name]]
        assert session(path, PRUNED[name])(images(3, PRUNED[name])).shape == (3, 10)


@pytest.mark.slow
def test_bytes_repeat(exported: Exported, tmp_path: Path) -> None:
    name = "lenet5"
    again = tmp_path / "again.tflite"
    litert.write(pruned(name), PRUNED[name], again, ExportOptions())
    assert again.read_bytes() == exported(name)["auto"][0].read_bytes()


@pytest.mark.slow
def test_dense_weights_stay_dense(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).eval()
    storage = litert.write(model, (3, 4, 4), tmp_path / "m.tflite", ExportOptions())
    assert storage.form == "dense"
    assert storage.sizes["sparse"] >= storage.sizes["dense"]


@pytest.mark.slow
def test_an_operator_that_litert_lacks_is_an_error(tmp_path: Path) -> None:
    class Ranked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).topk(3, dim=1).values

    with pytest.raises(MobilepruneError, match=r"LiteRT cannot run this model: .*STABLEHLO_SORT"):
        litert.write(Ranked(), (1, 4, 4), tmp_path / "m.tflite", ExportOptions())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 3, 2), (1, 1, 1, 300), (70_000, 1)])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_compressed_rows_hold_every_nonzero_in_its_place(shape: tuple[int, ...], share: float) -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.random(shape) < share, rng.uniform(1, 2, shape), 0).astype(np.float32)
    nonzeros, starts, places = compressed_rows(values)
    rebuilt = np.zeros_like(values).reshape(-1, shape[-1])
    for row in range(len(rebuilt)):
        here = slice(int(starts[row]), int(starts[row + 1]))
        rebuilt[row, places[here]] = nonzeros[here]
    assert np.array_equal(rebuilt.reshape(shape), values)


def test_the_target_is_registered() -> None:
    target = TARGETS["litert"]
    assert (target.file, target.write, target.forms) == ("model.tflite", litert.write, ("dense", "sparse"))
