from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doubled import Net

from prunec.compiler.errors import UsageError
from prunec.frontends.onnx import load
from prunec.passes.recovery import RECOVERIES
from prunec.runtime.data import DataSpec
from prunec.runtime.recovery.samples import Samples


def numbered(folder: Path, count: int) -> Samples:
    """Samples whose elements are their own number."""
    net = Net((3,))
    net.store("w", net.draw(4, 3))
    net.add("Gemm", ["x", "w"], "y", transB=1)
    data = np.repeat(np.arange(count, dtype=np.float32)[:, None], 3, axis=1)
    np.save(folder / "x.npy", data)
    return Samples(DataSpec(str(folder / "x.npy")), load(net.model("y", ("n", 4))))


def numbers(samples: Samples) -> list[int]:
    return np.concatenate([feeds["x"][:, 0] for feeds in samples()]).astype(int).tolist()


def test_what_is_drawn_reaches_from_the_first_to_the_last_sample(tmp_path: Path) -> None:
    samples = numbered(tmp_path, 400)
    samples.draw(40)
    found = numbers(samples)
    assert len(found) == samples.total == 40
    assert samples.batches == 5
    assert found[0] == 0
    assert found[-1] == 399
    assert np.diff(found).max() <= 100
    assert numbers(samples) == found
    assert samples.judging == 8


def test_few_samples_are_all_taken(tmp_path: Path) -> None:
    samples = numbered(tmp_path, 40)
    samples.draw(40)
    assert numbers(samples) == list(range(40))


def test_two_batches_are_the_least(tmp_path: Path) -> None:
    samples = numbered(tmp_path, 400)
    samples.draw(2)
    assert samples.batches == 2
    assert samples.judging == 8


@pytest.mark.parametrize("name", sorted(RECOVERIES))
def test_one_sample_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="samples must be at least 2"):
        RECOVERIES[name](samples=1)
