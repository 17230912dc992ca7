"""Augmentations: what they may change, and that the seed decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prunec.compiler.errors import DataError, UsageError
from prunec.runtime.inputs import InputSpec
from prunec.runtime.training.augment import (
    AUGMENTATIONS,
    Brightness,
    Crop,
    Erase,
    Flip,
    augmenter,
    parse_augmentations,
)
from prunec.runtime.training.batch import Batch

IMAGE = InputSpec("x", np.dtype("float32"), ("N", 3, 8, 8))
OTHER = InputSpec("ids", np.dtype("int64"), ("N", 12))


def images(samples: int = 16) -> torch.Tensor:
    return torch.rand((samples, 3, 8, 8), generator=torch.Generator().manual_seed(0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_seed_decides_and_shapes_stay(name: str) -> None:
    (change,) = parse_augmentations(name)
    first, again, other = (change(images(), seeded(s)) for s in (0, 0, 1))
    assert first.shape == images().shape
    assert first.dtype == images().dtype
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_flips_mirror_about_half_of_the_images() -> None:
    x = images(200)
    found = Flip()(x, seeded())
    mirrored = (found == x.flip(3)).all(dim=(1, 2, 3))
    same = (found == x).all(dim=(1, 2, 3))
    assert bool((mirrored | same).all())
    assert 70 < int(mirrored.sum()) < 130


def test_crops_are_windows_of_the_padded_image() -> None:
    x = images(30)
    found = Crop(padding=2, mode="zero")(x, seeded())
    padded = torch.nn.functional.pad(x, [2] * 4)
    windows = padded.unfold(2, 8, 1).unfold(3, 8, 1)  # (N, 3, 5, 5, 8, 8)
    equal = (windows == found[:, :, None, None]).all(dim=5).all(dim=4).all(dim=1)
    assert bool(equal.flatten(1).any(1).all())
    assert len({int(e.flatten().nonzero()[0]) for e in equal}) > 5


def test_erasing_changes_a_square_only() -> None:
    x = images()
    changed = (Erase(side=0.25)(x, seeded()) != x).any(1)
    assert int(changed.flatten(1).sum(1).max()) <= 9
    assert bool(changed.any())


def test_brightness_keeps_proportions() -> None:
    ratio = Brightness(strength=0.5)(images(), seeded()) / images()
    assert torch.allclose(ratio.amax((1, 2, 3)), ratio.amin((1, 2, 3)), rtol=1e-4)
    assert float(ratio.min()) >= 0.5
    assert float(ratio.max()) <= 1.5


def test_a_chain_is_parsed_with_options() -> None:
    assert parse_augmentations("flip,crop{padding=2,mode=zero}") == (Flip(), Crop(2, "zero"))
    assert parse_augmentations("") == ()
    with pytest.raises(UsageError, match="did you mean 'flip'"):
        parse_augmentations("flop")


def test_only_images_are_augmented() -> None:
    with pytest.raises(DataError, match="augmentations are for one input of images"):
        augmenter([Flip()], [OTHER])
    ids = torch.arange(12)[None]
    made = augmenter([Flip(share=1.0)], [IMAGE, OTHER])
    found = made(Batch({"x": images(), "ids": ids}), seeded())
    assert torch.equal(found.feeds["x"], images().flip(3))
    assert found.feeds["ids"] is ids


def test_a_padding_beyond_the_image_is_refused() -> None:
    with pytest.raises(UsageError, match="padding 8"):
        Crop(padding=8)(images(), seeded())
