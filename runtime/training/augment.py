"""Augmentations of images, on whole batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Generator, Tensor
from torch.nn import functional

from prunec.compiler.errors import DataError, UsageError
from prunec.compiler.spec import parse
from prunec.runtime.inputs import InputSpec
from prunec.runtime.training.batch import Batch


class Augmentation(Protocol):
    """Changes images (batch, colours, height, width) and keeps their shape and element type."""

    name: ClassVar[str]

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Other images; random numbers come from the generator (on the CPU) only."""
        ...


@dataclass(frozen=True, slots=True)
class Flip:
    """Mirror each image left to right with some probability."""

    name: ClassVar[str] = "flip"
    share: float = 0.5

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """The images, some of them mirrored."""
        chosen = torch.rand(len(images), generator=generator) < self.share
        return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(3), images)


@dataclass(frozen=True, slots=True)
class Crop:
    """Pad each side, then cut out the size it had, anywhere; mode: reflect, replicate or zero."""

    name: ClassVar[str] = "crop"
    padding: int = 4
    mode: str = "reflect"

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """The images, moved by up to `padding` pixels."""
        samples, _, height, width = images.shape
        amount = self.padding
        modes = {"zero": "constant", "reflect": "reflect", "replicate": "replicate"}
        if self.mode not in modes or not 0 < amount < min(height, width):
            raise UsageError(f"crop: padding {amount}, mode {self.mode} for {height} x {width}")
        padded = functional.pad(images, [amount] * 4, mode=modes[self.mode])
        starts = torch.randint(0, 2 * amount + 1, (2, samples), generator=generator)
        starts = starts.to(images.device)
        rows = starts[0, :, None] + torch.arange(height, device=images.device)
        columns = starts[1, :, None] + torch.arange(width, device=images.device)
        each = torch.arange(samples, device=images.device)[:, None, None]
        # Channels last for the one gather, so that each pixel's colours move together.
        cut = padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]
        return cut.permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True, slots=True)
class Erase:
    """Set a square with this share of the side of each image to the image's mean (Cutout)."""

    name: ClassVar[str] = "erase"
    side: float = 0.25

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """The images, each with a square gone."""
        samples, _, height, width = images.shape
        middle = torch.rand((2, samples), generator=generator).to(images.device)
        y = torch.arange(height, device=images.device) - middle[0, :, None] * height
        x = torch.arange(width, device=images.device) - middle[1, :, None] * width
        inside = (y.abs() < self.side * height / 2)[:, :, None] & (x.abs() < self.side * width / 2)[
            :, None, :
        ]
        mean = images.mean((2, 3), keepdim=True)
        return torch.where(inside[:, None], mean, images)


@dataclass(frozen=True, slots=True)
class Brightness:
    """Multiply each image by a factor drawn from [1 - strength, 1 + strength]."""

    name: ClassVar[str] = "brightness"
    strength: float = 0.2

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """The images, lighter or darker."""
        drawn = torch.rand(len(images), generator=generator) * 2 - 1
        factor = (1 + self.strength * drawn).to(images.device, images.dtype)
        return images * factor[:, None, None, None]


AUGMENTATIONS: Mapping[str, type[Augmentation]] = {
    "flip": Flip,
    "crop": Crop,
    "erase": Erase,
    "brightness": Brightness,
}


def parse_augmentations(text: str) -> tuple[Augmentation, ...]:
    """``flip,crop{padding=4}`` -> one component after the other. Raises UsageError."""
    parts: list[str] = []
    depth = 0
    for piece in text.split(","):
        if depth:
            parts[-1] += "," + piece
        elif piece.strip():
            parts.append(piece)
        depth += piece.count("{") - piece.count("}")
    return tuple(parse(part, AUGMENTATIONS, "augmentation") for part in parts)


def augmenter(
    chain: Sequence[Augmentation], inputs: Sequence[InputSpec]
) -> Callable[[Batch, Generator], Batch]:
    """All of them in order, on the one image input. Raises DataError where there is none."""
    images = [
        s for s in inputs if s.shape is not None and len(s.shape) == 4 and s.shape[1] in (1, 3)
    ]
    if len(images) != 1 or images[0].dtype.kind != "f":
        shown = ", ".join(f"{s.name!r} {s.describe()}" for s in inputs)
        raise DataError(
            "augmentations are for one input of images, float (batch, 1 or 3, height, width); "
            f"the model's are {shown}"
        )
    name = images[0].name

    def augment(batch: Batch, generator: Generator) -> Batch:
        feed = batch.feeds[name]
        for change in chain:
            feed = change(feed, generator)
        return replace(batch, feeds={**batch.feeds, name: feed})

    return augment
