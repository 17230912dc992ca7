"""A folder of images as model input: decode, resize, crop, scale, normalise."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.errors import DataError, MissingDependencyError
from prunec.runtime.inputs import Array, InputSpec

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})


class Member(io.BytesIO):
    """An image file inside an archive; its name is for messages."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(data)
        self.name = name

    def __str__(self) -> str:
        return str(self.name)


@dataclass(frozen=True, slots=True)
class Preparation:
    """Image -> array: shorter side to `resize` (bilinear), centre crop, /255, (x - mean) / std.

    mean, std: one number per channel, or one for all; empty: not applied. resize None: the image
    must have the model's size.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: int | None = None


def list_images(folder: Path) -> tuple[list[Path], NDArray[np.int64] | None]:
    """Files in order, and labels: subfolders are classes, numbered in sorted order.

    A folder without subfolders that hold images has no labels.
    """
    classes = [_images_below(sub) for sub in sorted(p for p in folder.iterdir() if p.is_dir())]
    classes = [files for files in classes if files]
    flat = sorted(p for p in folder.iterdir() if _is_image(p))
    if classes and flat:
        raise DataError(
            f"{folder}: holds both images and folders of images; use one subfolder per class, "
            "or no subfolders"
        )
    if not classes:
        return flat, None
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes])
    return [path for files in classes for path in files], labels


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if _is_image(path))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read_images(
    paths: Iterable[Path | Member], spec: InputSpec, preparation: Preparation
) -> Iterator[tuple[Path | Member, Array]]:
    """Each image as (1, C, H, W) in the input's element type; bounded memory."""
    pillow = _import_pillow()
    shape = spec.shape
    if shape is None or len(shape) != 4 or shape[1] not in (1, 3):
        raise DataError(
            f"input {spec.name!r} is {spec.describe()}: images need (batch, 1 or 3, height, width)"
        )
    raw = spec.dtype.kind in "iu"  # a model that scales pixels itself
    if raw and (preparation.mean or preparation.std):
        raise DataError(f"input {spec.name!r} is {spec.dtype}: it takes no --mean and --std")
    mean = _per_channel(preparation.mean, int(shape[1]), "--mean")
    std = _per_channel(preparation.std, int(shape[1]), "--std")
    for path in paths:
        pixels = _pixels(pillow, path, spec, preparation.resize)
        if raw:
            yield path, pixels.astype(spec.dtype)
            continue
        array = pixels.astype(np.float32) / np.float32(255)
        if mean is not None:
            array -= mean
        if std is not None:
            array /= std
        yield path, array.astype(spec.dtype, copy=False)


def _import_pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError(
            "reading images needs Pillow; install it with pip install 'prunec[images]'"
        ) from error
    return Image


def _per_channel(
    values: tuple[float, ...], channels: int, option: str
) -> NDArray[np.float32] | None:
    if not values:
        return None
    if len(values) not in (1, channels):
        raise DataError(f"{option}: {len(values)} numbers for an input of {channels} channels")
    array = np.array(values, np.float32)
    if not np.isfinite(array).all() or (option == "--std" and (array <= 0).any()):
        raise DataError(f"{option}: {values} must be finite{', above 0' * (option == '--std')}")
    return array.reshape(1, -1, 1, 1)


def _pixels(
    pillow: Any, path: Path | Member, spec: InputSpec, resize: int | None
) -> NDArray[np.uint8]:
    assert spec.shape is not None
    _, channels, height, width = spec.shape
    try:
        with pillow.open(path) as file:
            image = file.convert("RGB" if channels == 3 else "L")
    except (OSError, ValueError, pillow.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image ({error})") from error
    if resize is not None:
        target = (
            height if isinstance(height, int) else resize,
            width if isinstance(width, int) else resize,
        )
        image = _resize_and_crop(pillow, image, resize, target, path)
    size = (image.height, image.width)
    if not spec.fits((1, int(channels or 0), *size), skip=1):
        raise DataError(
            f"{path}: the image is {size[0]} x {size[1]}, the model wants {height} x {width}; "
            "give --resize"
        )
    array: NDArray[np.uint8] = np.asarray(image)
    return array[None, None] if array.ndim == 2 else array.transpose(2, 0, 1)[None]


def _resize_and_crop(
    pillow: Any, image: Any, resize: int, target: tuple[int, int], path: Path | Member
) -> Any:
    height, width = target
    if resize < max(target):
        raise DataError(f"{path}: --resize {resize} is below the model's {height} x {width}")
    scale = resize / min(image.size)
    # The long side is cut, as torchvision's Resize does: the same pixels as in usual training.
    size = tuple(
        resize if side == min(image.size) else max(resize, int(side * scale)) for side in image.size
    )
    image = image.resize(size, pillow.Resampling.BILINEAR)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
