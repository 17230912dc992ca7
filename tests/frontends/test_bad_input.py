"""Whatever is given as a model: one clear line that names the file, never a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend_models import chain, conv_relu
from onnx import TensorProto, helper, numpy_helper

from prunec.compiler.errors import ModelError
from prunec.frontends.onnx import load

RELU = helper.make_node("Relu", ["x"], ["y"])


def refused(path: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", "no such file")


def test_directory(tmp_path: Path) -> None:
    refused(tmp_path, "is a directory")


def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"x")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads everything")
    refused(path, "cannot be read")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "is empty"),
        (b"hello, this is no model\n" * 9, "is a text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "not an ONNX model"),
        (b"PK\x03\x04" + bytes(range(200)), "not an ONNX model"),
        (b"\x08\x08", "holds no graph"),
    ],
)
def test_files_that_are_no_model(tmp_path: Path, data: bytes, match: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    refused(path, match)


def test_truncation_anywhere(tmp_path: Path) -> None:
    data = conv_relu().SerializeToString()
    path = tmp_path / "net.onnx"
    for end in range(1, len(data), 97):
        path.write_bytes(data[:end])
        refused(path, ".")


def test_flipped_bytes_never_end_in_a_traceback(tmp_path: Path) -> None:
    data = conv_relu().SerializeToString()
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(data)
        broken[rng.integers(len(data))] = rng.integers(256)
        try:
            load(bytes(broken))
        except ModelError as error:
            assert "\n" not in str(error)


Break = Callable[[onnx.ModelProto], object]
FAULTS: dict[str, tuple[onnx.ModelProto, str]] = {
    "cycle": (
        chain(
            helper.make_node("Add", ["x", "b"], ["a"], name="one"),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Relu", ["a"], ["y"]),
        ),
        "cycle.*one",
    ),
    "self loop": (chain(helper.make_node("Add", ["x", "y"], ["y"], name="me")), "cycle.*me"),
    "unproduced input": (
        chain(helper.make_node("Add", ["x", "ghost"], ["y"], name="add")),
        "add .* reads 'ghost', which nothing produces",
    ),
    "unproduced output": (chain(helper.make_node("Relu", ["x"], ["z"])), "output 'y'"),
    "two producers": (chain(RELU, RELU), "two values are named 'y'"),
    "produced input": (
        chain(RELU, helper.make_node("Relu", ["y"], ["x"])),
        "two values are named 'x'",
    ),
    "unknown operator": (chain(helper.make_node("Wobble", ["x"], ["y"])), "Wobble"),
    "unimported domain": (
        chain(helper.make_node("Magic", ["x"], ["y"], domain="com.example")),
        "com.example",
    ),
    "bad attribute": (chain(helper.make_node("Relu", ["x"], ["y"], slope=1.0)), "slope"),
    "missing input": (chain(helper.make_node("Add", ["x"], ["y"])), "Add"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_illegal_graphs(tmp_path: Path, fault: str) -> None:
    model, match = FAULTS[fault]
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    refused(path, match)


def _no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def _no_such_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 0


def _future_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 9999


def _future_format(model: onnx.ModelProto) -> None:
    model.ir_version = 9999


def _two_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def _unnamed_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].name = ""


def _short_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] += 1


def _negative_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] *= -1


def _unknown_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 77


def _short_small_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].dims[0] += 1


def _unknown_small_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].data_type = 77


def _odd_constant(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "odd")
    tensor.dims[0] = 4
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def _sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add()


def _training(model: onnx.ModelProto) -> None:
    model.training_info.add()


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (_no_opset, "does not import the default operator set"),
        (_no_such_opset, "operator set 0 is not supported"),
        (_future_opset, "operator set 9999 is not supported"),
        (_future_format, "(?i)ir_version|ir version"),
        (_two_weights, "two values are named 'w1'"),
        (_unnamed_weight, "initializer 0 has no name"),
        (_short_weight, "'w1': FLOAT .* takes 1836 bytes, 1728 are given"),
        (_negative_weight, "'w1'"),
        (_unknown_type, "'w1'"),
        (_short_small_weight, "tensor 'b1'"),
        (_unknown_small_type, "tensor 'b1'"),
        (_odd_constant, "tensor 'odd'"),
        (_sparse, "sparse initializer"),
        (_training, "training_info"),
    ],
)
def test_spoiled_models(tmp_path: Path, spoil: Break, match: str) -> None:
    model = conv_relu()
    spoil(model)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    refused(path, match)


def external(tmp_path: Path, **entries: str) -> Path:
    """A model whose w1 lies in data.bin, with some of external_data's entries replaced."""
    model = conv_relu()
    tensor = model.graph.initializer[0]
    (tmp_path / "data.bin").write_bytes(bytes(64) + tensor.raw_data)
    told = {"location": "data.bin", "offset": "64", "length": str(len(tensor.raw_data))} | entries
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in told.items():
        tensor.external_data.add(key=key, value=value)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_sound_external_data_is_mapped(tmp_path: Path) -> None:
    tensor = load(external(tmp_path)).graph.initializers["w1"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(
        tensor.numpy(), numpy_helper.to_array(conv_relu().graph.initializer[0])
    )


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"location": "gone.bin"}, "'gone.bin' is missing"),
        ({"location": "/etc/passwd"}, "leaves the model's folder"),
        ({"location": "../data.bin"}, "leaves the model's folder"),
        ({"location": "sub/../../data.bin"}, "leaves the model's folder"),
        ({"location": "..\\data.bin"}, "leaves the model's folder"),
        ({"location": ""}, "names no file"),
        ({"location": "."}, "is missing"),
        ({"offset": "65"}, "truncated or belongs to another model"),
        ({"offset": "-1"}, "truncated or belongs to another model"),
        ({"offset": "many"}, "many"),
        ({"length": "9"}, "takes 1728 bytes, 9 are given"),
        ({"length": str(2**70)}, "truncated or belongs to another model"),
    ],
)
def test_unsound_external_data(tmp_path: Path, entries: dict[str, str], match: str) -> None:
    refused(external(tmp_path, **entries), match)


def test_external_data_behind_a_link_out_of_the_folder(tmp_path: Path) -> None:
    inside = tmp_path / "models"
    inside.mkdir()
    path = external(inside)
    (inside / "data.bin").rename(tmp_path / "data.bin")
    (inside / "data.bin").symlink_to(tmp_path / "data.bin")
    refused(path, "link that leaves the model's folder")


def test_model_and_data_linked_into_one_store_are_fine(tmp_path: Path) -> None:
    store, view = tmp_path / "blobs", tmp_path / "snapshot"
    store.mkdir()
    view.mkdir()
    external(store).rename(store / "0a")
    (view / "net.onnx").symlink_to("../blobs/0a")
    (view / "data.bin").symlink_to("../blobs/data.bin")
    assert "w1" in load(view / "net.onnx").graph.initializers


def test_external_data_without_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="load the model by its path"):
        load(external(tmp_path).read_bytes())
