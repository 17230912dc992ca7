from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from prunec.compiler.errors import DataError
from prunec.runtime.accuracy import accuracy
from prunec.runtime.data import DataSpec, load_data
from prunec.runtime.inputs import InputSpec, model_inputs
from prunec.runtime.session import make_session

pytest.importorskip("onnxruntime")


def echo() -> ir.Model:
    """scores (batch, 6) -> Identity: the data is the answer."""
    x, y = (
        ir.Value(name=n, shape=ir.Shape(["batch", 6]), type=ir.TensorType(ir.DataType.FLOAT))
        for n in ("scores", "out")
    )
    node = ir.node("Identity", [x], outputs=[y], name="echo")
    graph = ir.Graph([x], [y], nodes=[node], opset_imports={"": 17}, name="echo")
    return ir.Model(graph, ir_version=9)


def measured(tmp_path: Path, scores: np.ndarray, labels: list[int]) -> object:
    np.savez(tmp_path / "a.npz", x=scores.astype(np.float32), y=np.array(labels))
    model = echo()
    data = load_data(DataSpec(str(tmp_path / "a.npz"), batch=2), model_inputs(model))
    result = accuracy(model, data)
    return result.top1, result.top5, result.samples


def test_top1_and_top5_count_the_right_class(tmp_path: Path) -> None:
    scores = np.tile([6, 5, 4, 3, 2, 1], (4, 1))
    assert measured(tmp_path, scores, [0, 1, 4, 5]) == (0.25, 0.75, 4)


def test_a_constant_output_is_not_counted_as_right(tmp_path: Path) -> None:
    assert measured(tmp_path, np.zeros((3, 6)), [0, 1, 5]) == (1 / 3, 2 / 3, 3)


def test_rows_with_nan_are_wrong(tmp_path: Path, model: ir.Model, images: np.ndarray) -> None:
    huge = np.full_like(images, 3e38)  # inf - inf inside the convolution
    np.savez(tmp_path / "a.npz", x=huge, y=np.zeros(10, np.int64))
    data = load_data(DataSpec(str(tmp_path / "a.npz")), model_inputs(model))
    result = accuracy(model, data)
    assert (result.top1, result.top5) == (0, 0)


def test_sums_over_batches_equal_one_batch(archive: Path, model: ir.Model) -> None:
    session = make_session(model)
    results = {
        accuracy(session, load_data(DataSpec(str(archive), batch=b), session.inputs))
        for b in (3, 10)
    }
    assert len(results) == 1


def test_data_without_labels_is_refused(tmp_path: Path, model: ir.Model) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 8, 8), np.float32))
    data = load_data(DataSpec(str(tmp_path / "a.npy")), model_inputs(model))
    with pytest.raises(DataError, match="needs labels"):
        accuracy(model, data)


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels lie in \[0, 6\], output 'out' has 6 classes"):
        measured(tmp_path, np.zeros((2, 6)), [0, 6])


def test_an_output_that_is_no_score_per_class_is_refused(
    model: ir.Model, images: np.ndarray, tmp_path: Path
) -> None:
    clone = model.clone()
    clone.graph.outputs[0] = next(iter(clone.graph)).outputs[0]
    np.savez(tmp_path / "a.npz", x=images, y=np.zeros(10, np.int64))
    data = load_data(DataSpec(str(tmp_path / "a.npz")), model_inputs(model))
    with pytest.raises(DataError, match=r"accuracy needs \(batch, classes\)"):
        accuracy(clone, data)


CIFAR = Path(__file__).parents[3] / "shared"


@pytest.mark.skipif(not CIFAR.is_dir(), reason="../shared is absent")
def test_resnet20_reaches_its_published_accuracy_on_a_sample() -> None:
    pytest.importorskip("PIL")
    spec = InputSpec("image", np.dtype(np.float32), ("batch", 3, 32, 32))
    data = load_data(DataSpec(f"{__file__}:cifar10", batch=50), [spec])
    result = accuracy(CIFAR / "models" / "resnet20-cifar10.onnx", data)
    assert result.samples == 200
    assert abs(result.top1 - 0.885) < 0.07  # three standard errors of 200 draws


def cifar10() -> object:
    import importlib.util

    spec = importlib.util.spec_from_file_location("cifar", CIFAR / "data" / "cifar10" / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images, labels = module.load("test", limit=200)
    yield module.preprocess(images), labels
