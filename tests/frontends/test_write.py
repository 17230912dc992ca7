"""save() writes all or nothing, the same bytes each time, one weight at a time."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from frontend_models import conv_relu, weights
from onnx import helper, numpy_helper

from prunec.compiler.errors import ModelError, OutputError
from prunec.frontends.onnx import graph_digest, load, save, to_proto


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_bytes_are_those_of_protobuf(tmp_path: Path) -> None:
    model = load(conv_relu())
    save(model, tmp_path / "out.onnx")
    expected = to_proto(model).SerializeToString(deterministic=True)
    assert (tmp_path / "out.onnx").read_bytes() == expected


def test_everything_survives_the_round_trip(tmp_path: Path) -> None:
    before = conv_relu()
    before.graph.metadata_props.add(key="where", value="graph")
    before.graph.node[0].metadata_props.add(key="where", value="node")
    before.graph.value_info.append(
        helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, ["N", 16, 6, 6])
    )
    save(load(before), tmp_path / "out.onnx")
    after = onnx.load(tmp_path / "out.onnx")
    for node in after.graph.node[1:]:
        node.ClearField("name")  # the only thing that load() adds
    assert after == before


def test_functions_survive_the_round_trip(tmp_path: Path) -> None:
    body = [helper.make_node("Relu", ["a"], ["t"]), helper.make_node("Neg", ["t"], ["b"])]
    opset = helper.make_opsetid("", 17)
    function = helper.make_function("local", "ReluNeg", ["a"], ["b"], body, [opset])
    model = conv_relu()
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.graph.node[1].op_type, model.graph.node[1].domain = "ReluNeg", "local"
    save(load(model), tmp_path / "out.onnx")
    after = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(after)
    assert [node.op_type for node in after.functions[0].node] == ["Relu", "Neg"]


def test_external_data_stays_external(tmp_path: Path) -> None:
    source, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    big = conv_relu(channels=64)
    copy = conv_relu(channels=64)  # onnx.save empties what it is given
    onnx.save(copy, source, save_as_external_data=True, location="in.bin", size_threshold=0)
    model = load(source)
    save(model, out)
    assert files(tmp_path) == ["in.bin", "in.onnx", "out.onnx", "out.onnx.data"]
    onnx.checker.check_model(out)
    for tensor, original in zip(onnx.load(out).graph.initializer, big.graph.initializer):  # noqa: B905
        np.testing.assert_array_equal(
            numpy_helper.to_array(tensor), numpy_helper.to_array(original)
        )
    save(model.clone(), tmp_path / "clone.onnx")
    assert (tmp_path / "clone.onnx.data").exists()
    save(model, tmp_path / "inline.onnx", external=False)
    assert not (tmp_path / "inline.onnx.data").exists()


def test_large_external_tensors_start_on_a_page(tmp_path: Path) -> None:
    model = conv_relu()
    for k in range(2):
        tensor = numpy_helper.from_array(weights(300 + k, 1000), f"big{k}")
        model.graph.initializer.append(tensor)
    save(load(model), tmp_path / "out.onnx", external=True)
    saved = onnx.load(tmp_path / "out.onnx", load_external_data=False).graph.initializer
    entries = [{e.key: e.value for e in tensor.external_data} for tensor in saved]
    assert [int(e["offset"]) % 4096 for e in entries[-2:]] == [0, 0]
    assert not entries[1], "small tensors stay in the model file"
    assert graph_digest(load(tmp_path / "out.onnx")) == graph_digest(load(model))


def test_two_writes_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save(load(conv_relu()), tmp_path / name / "out.onnx", external=True)
    for name in ("out.onnx", "out.onnx.data"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_lazy_tensors_are_evaluated_once_each_and_dropped(tmp_path: Path) -> None:
    alive = peak = calls = 0

    class Counted(np.ndarray[Any, Any]):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def evaluate() -> ir.Tensor[Any]:
        nonlocal alive, peak, calls
        array = np.zeros((64, 64), np.float32).view(Counted)
        alive, calls = alive + 1, calls + 1
        peak = max(peak, alive)
        return ir.Tensor(array, dtype=ir.DataType.FLOAT)

    model = load(conv_relu())
    for k in range(8):
        lazy = ir.LazyTensor(
            evaluate, dtype=ir.DataType.FLOAT, shape=ir.Shape((64, 64)), cache=True, name=f"w{k}x"
        )
        model.graph.register_initializer(
            ir.Value(name=f"w{k}x", const_value=lazy, shape=ir.Shape((64, 64)))
        )
    save(model, tmp_path / "out.onnx")
    assert calls == 8
    assert peak <= 8 // 2


@pytest.mark.parametrize("external", [False, True])
def test_strings_and_empty_tensors_are_written(tmp_path: Path, external: bool) -> None:
    model = conv_relu()
    model.graph.initializer.append(helper.make_tensor("s", onnx.TensorProto.STRING, [1], [b"hi"]))
    model.graph.initializer.append(numpy_helper.from_array(weights(0, 4), "none"))
    save(load(model), tmp_path / "out.onnx", external=external)
    after = {t.name: t for t in onnx.load(tmp_path / "out.onnx").graph.initializer}
    assert numpy_helper.to_array(after["s"]).tolist() in ([b"hi"], ["hi"])
    assert numpy_helper.to_array(after["none"]).shape == (0, 4)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        save(load(conv_relu()), tmp_path / "no" / "out.onnx")


def test_target_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not a regular file"):
        save(load(conv_relu()), tmp_path)


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "in.onnx"
    onnx.save(conv_relu(), source)
    (tmp_path / "link.onnx").symlink_to("in.onnx")
    before = source.read_bytes()
    for target in (source, tmp_path / "link.onnx"):
        with pytest.raises(OutputError, match="is the input"):
            save(load(source), target)
        with pytest.raises(OutputError, match="is the input"):
            save(load(source).clone(), target)
    assert source.read_bytes() == before


def test_the_inputs_data_file_is_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "in.onnx"
    onnx.save(
        conv_relu(),
        source,
        save_as_external_data=True,
        location="out.onnx.data",
        size_threshold=0,
    )
    with pytest.raises(OutputError, match=r"out\.onnx\.data: is the input"):
        save(load(source), tmp_path / "out.onnx")


def _full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _fail_on(call: int, fault: Callable[..., None], real: Callable[..., Any]) -> Callable[..., Any]:
    count = 0

    def wrapped(*arguments: object) -> object:
        nonlocal count
        count += 1
        if count == call:
            fault()
        return real(*arguments)

    return wrapped


@pytest.mark.parametrize("fault", [_full_disk, _interrupt])
@pytest.mark.parametrize(
    ("external", "function", "call"),
    [
        (False, "fsync", 1),
        (False, "replace", 1),
        (True, "fsync", 1),
        (True, "fsync", 2),
        (True, "replace", 1),
    ],
)
def test_a_failing_write_changes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[..., None],
    function: str,
    call: int,
    external: bool,
) -> None:
    target = tmp_path / "out.onnx"
    save(load(conv_relu(channels=8)), target, external=external)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    monkeypatch.setattr(os, function, _fail_on(call, fault, getattr(os, function)))
    expected: type[BaseException] = OutputError if fault is _full_disk else KeyboardInterrupt
    with pytest.raises(expected):
        save(load(conv_relu()), target, external=external)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_failing_rename_of_either_file_restores_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    target = tmp_path / "out.onnx"
    save(load(conv_relu(channels=8)), target, external=True)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", _fail_on(call, _full_disk, os.replace))
        with pytest.raises(OutputError, match="No space left"):
            save(load(conv_relu()), target, external=True)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


def test_a_weight_that_fails_to_evaluate_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> ir.Tensor[Any]:
        raise KeyboardInterrupt

    model = load(conv_relu())
    model.graph.initializers["w2"].const_value = ir.LazyTensor(
        broken, dtype=ir.DataType.FLOAT, shape=ir.Shape((4, 16, 3, 3)), name="w2"
    )
    for external in (False, True):
        with pytest.raises(KeyboardInterrupt):
            save(model, tmp_path / "out.onnx", external=external)
    assert files(tmp_path) == []


def test_an_initializer_without_contents_is_refused(tmp_path: Path) -> None:
    model = load(conv_relu())
    model.graph.initializers["w2"].const_value = None
    with pytest.raises(ModelError, match="'w2' has no contents"):
        save(model, tmp_path / "out.onnx")


def test_outputs_are_identical_under_onnxruntime(tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    onnx.save(conv_relu(), tmp_path / "in.onnx")
    save(load(tmp_path / "in.onnx"), tmp_path / "out.onnx")
    save(load(tmp_path / "in.onnx"), tmp_path / "ext.onnx", external=True)
    feeds = {"x": weights(2, 3, 8, 8)}
    results = [
        ort.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"]).run(None, feeds)
        for name in ("in.onnx", "out.onnx", "ext.onnx")
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(other[0], results[0][0])
