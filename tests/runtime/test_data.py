from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from prunec.compiler.errors import DataError
from prunec.runtime.data import Dataset, DataSpec, load_data
from prunec.runtime.inputs import InputSpec, model_inputs

TOKENS = InputSpec("tokens", np.dtype(np.int64), ("batch", "length"))
MASK = InputSpec("mask", np.dtype(np.float32), ("batch", "length"))


def opened(path: Path | str, model: ir.Model, **options: object) -> Dataset:
    return load_data(DataSpec(str(path), **options), model_inputs(model))


def stacked(data: Dataset, name: str = "image") -> np.ndarray:
    return np.concatenate([feeds[name] for feeds in data])


def test_npz_gives_batches_and_labels(archive: Path, images: np.ndarray, model: ir.Model) -> None:
    data = opened(archive, model, batch=4)
    assert [len(feeds["image"]) for feeds in data] == [4, 4, 2]
    np.testing.assert_array_equal(stacked(data), images)
    np.testing.assert_array_equal(data.labels, np.arange(10) % 6)


def test_iterating_twice_gives_the_same(archive: Path, model: ir.Model) -> None:
    data = opened(archive, model, batch=3)
    np.testing.assert_array_equal(stacked(data), stacked(data))


def test_limit_cuts_samples_and_labels(archive: Path, model: ir.Model) -> None:
    data = opened(archive, model, batch=4, limit=5)
    assert [len(feeds["image"]) for feeds in data] == [4, 1]
    assert data.labels is not None
    assert len(data.labels) == 5


@pytest.mark.parametrize("name", ["x", "images", "anything"])
def test_a_single_array_feeds_a_single_input(
    tmp_path: Path, images: np.ndarray, model: ir.Model, name: str
) -> None:
    np.savez(tmp_path / "a.npz", **{name: images})
    data = opened(tmp_path / "a.npz", model)
    np.testing.assert_array_equal(stacked(data), images)
    assert data.labels is None


def test_npy_gives_samples(tmp_path: Path, images: np.ndarray, model: ir.Model) -> None:
    np.save(tmp_path / "a.npy", images)
    np.testing.assert_array_equal(stacked(opened(tmp_path / "a.npy", model)), images)


def test_a_folder_of_files_is_read_in_name_order_across_batches(
    tmp_path: Path, images: np.ndarray, model: ir.Model
) -> None:
    np.save(tmp_path / "a.npy", images[0])  # one sample without the batch axis
    np.save(tmp_path / "b.npy", images[1:7])
    np.savez(tmp_path / "c.npz", x=images[7:])
    data = opened(tmp_path, model, batch=4)
    assert [len(feeds["image"]) for feeds in data] == [4, 4, 2]
    np.testing.assert_array_equal(stacked(data), images)


def test_npy_files_named_after_inputs_make_one_set(tmp_path: Path) -> None:
    np.save(tmp_path / "tokens.npy", np.arange(6).reshape(3, 2))
    np.save(tmp_path / "mask.npy", np.ones((3, 2)))
    np.save(tmp_path / "labels.npy", np.array([1, 2, 3]))
    data = load_data(DataSpec(str(tmp_path), batch=2), [TOKENS, MASK])
    first = next(iter(data))
    assert first["tokens"].shape == first["mask"].shape == (2, 2)
    assert first["mask"].dtype == np.float32  # float64 narrows; integers never become floats
    np.testing.assert_array_equal(data.labels, [1, 2, 3])


def test_a_fixed_batch_of_the_model_wins_and_drops_the_rest() -> None:
    spec = InputSpec("x", np.dtype(np.float32), (4, 2))
    data = load_data(DataSpec(f"{__file__}:ten_rows", batch=3), [spec])
    assert [len(feeds["x"]) for feeds in data] == [4, 4]


def ten_rows() -> np.ndarray:
    return np.ones((10, 2), np.float32)


def labelled_samples() -> object:
    for number in range(5):
        yield np.full((3, 8, 8), number, np.float32), number


def batches_by_name() -> object:
    for _ in range(2):
        yield {"image": np.zeros((3, 3, 8, 8), np.float32)}


def tokens_of_two_lengths() -> object:
    for length in (3, 3, 5):
        yield {"tokens": np.ones((2, length), np.int64)}


def failing() -> object:
    yield np.zeros((3, 8, 8), np.float32)
    raise RuntimeError("disk on fire")


def test_a_function_yields_labelled_samples(model: ir.Model) -> None:
    data = opened(f"{__file__}:labelled_samples", model, batch=2)
    assert [feeds["image"].shape for feeds in data] == [(2, 3, 8, 8)] * 2 + [(1, 3, 8, 8)]
    np.testing.assert_array_equal(data.labels, range(5))


def test_a_function_yields_batches_by_name(model: ir.Model) -> None:
    data = opened(f"{__file__}:batches_by_name", model, batch=4)
    assert [len(feeds["image"]) for feeds in data] == [4, 2]


def test_a_module_in_the_current_folder_is_found(
    tmp_path: Path, model: ir.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_feeds.py").write_text(
        "import numpy as np\ndef feeds():\n    yield np.zeros((2, 3, 8, 8), 'float32')\n"
    )
    monkeypatch.chdir(tmp_path)
    assert stacked(opened("my_feeds:feeds", model)).shape == (2, 3, 8, 8)


def test_samples_of_other_shapes_start_a_new_batch() -> None:
    data = load_data(DataSpec(f"{__file__}:tokens_of_two_lengths", batch=8), [TOKENS])
    assert [feeds["tokens"].shape for feeds in data] == [(4, 3), (2, 5)]


def test_an_error_in_the_function_is_reported_in_one_line(model: ir.Model) -> None:
    with pytest.raises(DataError, match="failing failed with RuntimeError: disk on fire"):
        stacked(opened(f"{__file__}:failing", model))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.npz", "no such file or folder"),
        ("no_such_module_here:f", "cannot be imported"),
        ("missing.py:f", "no such file"),
        (f"{__file__}:labelled_sample", "did you mean 'labelled_samples'"),
        (__file__, "name the function"),
    ],
)
def test_what_is_not_there_is_named(model: ir.Model, path: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        stacked(opened(path, model))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": np.zeros((2, 8, 8, 3), "f4")}, r"must be float32 \(batch, 3, 8, 8\), got shape"),
        ({"image": np.zeros((2, 3, 8, 8), "u1")}, "got uint8; scale it"),
        ({"image": np.zeros((2, 3, 8, 8), "c8")}, "got complex64"),
        ({"image": np.full((2, 3, 8, 8), np.nan, "f4")}, "holds NaN"),
        ({"image": np.zeros((0, 3, 8, 8), "f4")}, "holds less than a sample"),
        ({"image": np.float32(1)}, "no batch axis"),
        ({"a": np.zeros(2), "b": np.zeros(2)}, "holds a, b; the model's inputs are image"),
        ({"x": np.zeros((2, 3, 8, 8), "f4"), "y": np.zeros(3, "i8")}, "different numbers"),
        ({"x": np.zeros((2, 3, 8, 8), "f4"), "y": np.zeros(2)}, "labels must be integers"),
        ({"x": np.zeros((2, 3, 8, 8), "f4"), "y": np.zeros((2, 6), "i8")}, "one number per sample"),
    ],
)
def test_data_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, model: ir.Model, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        stacked(opened(tmp_path / "bad.npz", model))
    assert "bad.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pickled_objects_are_never_loaded(tmp_path: Path, model: ir.Model) -> None:
    np.savez(tmp_path / "a.npz", image=np.array([{}], object))
    with pytest.raises(DataError, match="pickled objects"):
        stacked(opened(tmp_path / "a.npz", model))


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
@pytest.mark.parametrize("content", [b"", b"not an archive"])
def test_broken_files_are_named(tmp_path: Path, model: ir.Model, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: not a readable"):
        stacked(opened(tmp_path / name, model))


def test_an_empty_folder_is_refused(tmp_path: Path, model: ir.Model) -> None:
    with pytest.raises(DataError, match=r"no \.npy, \.npz or image file"):
        opened(tmp_path, model)


def test_labels_in_some_files_only_are_refused(
    tmp_path: Path, images: np.ndarray, model: ir.Model
) -> None:
    np.savez(tmp_path / "a.npz", x=images[:2], y=np.zeros(2, np.int64))
    np.savez(tmp_path / "b.npz", x=images[:2])
    with pytest.raises(DataError, match="some data has labels, some has none"):
        stacked(opened(tmp_path, model))


def test_image_options_are_refused_for_arrays(archive: Path, model: ir.Model) -> None:
    with pytest.raises(DataError, match="are for image files"):
        opened(archive, model, mean=(0.5,))


def test_a_limit_below_one_is_refused(archive: Path, model: ir.Model) -> None:
    with pytest.raises(DataError, match="--samples"):
        opened(archive, model, limit=0)
