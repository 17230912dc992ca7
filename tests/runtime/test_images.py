from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunec.compiler.errors import DataError, MissingDependencyError
from prunec.runtime.data import DataSpec, load_data
from prunec.runtime.inputs import InputSpec

INPUT = InputSpec("image", np.dtype(np.float32), ("batch", 3, 8, 8))
ANY_SIZE = InputSpec("image", np.dtype(np.float32), ("batch", 3, "h", "w"))


@pytest.fixture
def pillow() -> Any:
    return pytest.importorskip("PIL.Image")


def write(pillow: Any, path: Path, shape: tuple[int, ...] = (8, 8, 3), value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.fromarray(np.full(shape, value, np.uint8)).save(path)


def test_pixels_are_scaled_then_normalised_per_channel(pillow: Any, tmp_path: Path) -> None:
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    pillow.fromarray(pixels).save(tmp_path / "a.png")
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    (feeds,) = load_data(DataSpec(str(tmp_path), mean=mean, std=std), [INPUT])
    expected = ((pixels / 255 - mean) / std).transpose(2, 0, 1)[None]
    assert feeds["image"].dtype == np.float32
    np.testing.assert_allclose(feeds["image"], expected, rtol=1e-5, atol=1e-6)


def test_subfolders_are_classes_in_sorted_order(pillow: Any, tmp_path: Path) -> None:
    for name in ("dog/2.png", "cat/1.png", "cat/deep/3.png"):
        write(pillow, tmp_path / name)
    np.testing.assert_array_equal(load_data(DataSpec(str(tmp_path)), [INPUT]).labels, [0, 0, 1])


def test_a_limit_takes_samples_of_all_classes(pillow: Any, tmp_path: Path) -> None:
    for number in range(12):
        write(pillow, tmp_path / f"class{number // 4}" / f"{number:02}.png")
    data = load_data(DataSpec(str(tmp_path), limit=3), [INPUT])
    np.testing.assert_array_equal(data.labels, [0, 1, 2])


def test_a_flat_folder_has_no_labels(pillow: Any, tmp_path: Path) -> None:
    write(pillow, tmp_path / "a.png")
    assert load_data(DataSpec(str(tmp_path)), [INPUT]).labels is None


def test_grey_images_become_rgb(pillow: Any, tmp_path: Path) -> None:
    write(pillow, tmp_path / "a.png", (8, 8))
    (feeds,) = load_data(DataSpec(str(tmp_path)), [INPUT])
    assert (feeds["image"] == 1).all()


def test_resize_scales_the_shorter_side_and_crops_the_centre(pillow: Any, tmp_path: Path) -> None:
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, 16:32] = 255
    pillow.fromarray(pixels).save(tmp_path / "a.png")
    (feeds,) = load_data(DataSpec(str(tmp_path), resize=8), [INPUT])
    assert feeds["image"].shape == (1, 3, 8, 8)
    assert (feeds["image"][..., 2:6] == 1).all()


def test_open_dimensions_take_the_resized_square(pillow: Any, tmp_path: Path) -> None:
    write(pillow, tmp_path / "a.png", (20, 30, 3))
    (feeds,) = load_data(DataSpec(str(tmp_path), resize=10), [ANY_SIZE])
    assert feeds["image"].shape == (1, 3, 10, 10)


def test_integer_inputs_take_raw_pixels(pillow: Any, tmp_path: Path) -> None:
    write(pillow, tmp_path / "a.png", value=200)
    spec = InputSpec("image", np.dtype(np.uint8), (1, 3, 8, 8))
    (feeds,) = load_data(DataSpec(str(tmp_path)), [spec])
    assert (feeds["image"] == 200).all()


def test_images_and_classes_side_by_side_are_refused(pillow: Any, tmp_path: Path) -> None:
    write(pillow, tmp_path / "a.png")
    write(pillow, tmp_path / "cat" / "b.png")
    with pytest.raises(DataError, match="both images and folders"):
        load_data(DataSpec(str(tmp_path)), [INPUT])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "the image is 16 x 16, the model wants 8 x 8; give --resize"),
        ({"resize": 4}, "below the model's 8 x 8"),
        ({"resize": 8, "mean": (1.0, 2.0)}, "--mean: 2 numbers"),
        ({"resize": 8, "std": (0.0,)}, "--std: .* above 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    pillow: Any, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    write(pillow, tmp_path / "a.png", (16, 16, 3))
    with pytest.raises(DataError, match=message):
        list(load_data(DataSpec(str(tmp_path), **options), [INPUT]))


def test_a_broken_image_is_named(pillow: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.png: not a readable image"):
        list(load_data(DataSpec(str(tmp_path)), [INPUT]))


def test_a_model_without_image_input_is_refused(pillow: Any, tmp_path: Path) -> None:
    write(pillow, tmp_path / "a.png")
    tokens = InputSpec("tokens", np.dtype(np.int64), ("batch", 5))
    with pytest.raises(DataError, match="images need"):
        list(load_data(DataSpec(str(tmp_path)), [tokens]))


def test_a_missing_pillow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependencyError, match=r"prunec\[images\]"):
        list(load_data(DataSpec(str(tmp_path)), [INPUT]))
