"""Every form of ``--data`` as training samples, and what is held out of them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from training_nets import arrays, images, net

from prunec.compiler.errors import DataError
from prunec.frontends.onnx import load
from prunec.runtime.data import DataSpec
from prunec.runtime.inputs import model_inputs
from prunec.runtime.training.batch import Shard
from prunec.runtime.training.indexed import Indexed
from prunec.runtime.training.reading import Reading, divided
from prunec.runtime.training.samples import Samples
from prunec.runtime.training.streams import Stream

INPUTS = model_inputs(load(net()))
SMALL = Reading(batch=8)
FUNCTIONS = """
import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

x = np.load("x.npy")
y = np.arange(len(x)) % 4

def whole():
    return x, y

def batches():
    for start in range(0, 40, 5):
        yield {"x": x[start : start + 5], "labels": y[start : start + 5]}

class Map(Dataset):
    def __len__(self):
        return len(x)
    def __getitem__(self, k):
        return torch.from_numpy(x[k]), int(y[k])

class Iterable(IterableDataset):
    def __iter__(self):
        return ((x[k], y[k]) for k in range(len(x)))

def nothing():
    return iter(())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    x, _ = images(40)
    np.save("x.npy", x)
    Path("mine.py").write_text(FUNCTIONS)
    return tmp_path


def sums(data: Samples | None) -> list[float]:
    """One number per sample that tells it from the others, in order."""
    assert data is not None
    rows = [batch.feeds["x"].flatten(1).sum(1) for batch in data.epoch(1, Shard())]
    return sorted(round(float(value), 3) for row in rows for value in row)


def expected() -> list[float]:
    x, _ = images(40)
    return sorted(round(float(value), 3) for value in x.reshape(40, -1).sum(1))


@pytest.mark.parametrize("name", ["whole", "batches", "Map", "Iterable"])
def test_functions_and_datasets_give_all_samples(folder: Path, name: str) -> None:
    data = divided(DataSpec(f"mine.py:{name}"), INPUTS, SMALL)
    assert data.labelled
    assert sums(data.train) == pytest.approx(expected(), abs=2e-3)
    assert isinstance(data.train, Stream) == (name == "Iterable")


def test_arrays_are_read_from_files_and_folders(folder: Path) -> None:
    x, y = images(40)
    for k in range(4):
        Path("parts").mkdir(exist_ok=True)
        part = slice(10 * k, 10 * k + 10)
        np.savez(f"parts/{k}.npz", x=x[part], labels=y[part])
    for path in ("x.npy", "parts"):
        assert sums(divided(DataSpec(path), INPUTS, SMALL).train) == pytest.approx(
            expected(), abs=2e-3
        )


def test_what_does_not_fit_into_memory_is_streamed(folder: Path) -> None:
    for path in ("mine.py:batches", "mine.py:Iterable"):
        data = divided(DataSpec(path), INPUTS, Reading(batch=8, memory=2000, buffer=10))
        assert isinstance(data.train, Stream)
        assert sums(data.train) == pytest.approx(expected(), abs=2e-3)


def test_folders_of_images_have_their_classes(folder: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for k in range(12):
        Path(f"pictures/{k % 2}").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        pillow.fromarray(pixels).save(f"pictures/{k % 2}/{k}.png")
    data = divided(DataSpec("pictures", mean=(0.5,)), INPUTS, Reading(batch=4))
    found = list(data.train.epoch(1, Shard()))
    assert sorted(int(k) for b in found for k in b.labels) == [0] * 6 + [1] * 6  # type: ignore[union-attr]
    assert all(float(b.feeds["x"].min()) < 0 for b in found)


def test_shards_are_read(folder: Path) -> None:
    x, _ = images(40)
    for k in range(2):
        with tarfile.open(f"s-{k}.tar", "w") as archive:
            for s in range(20):
                buffer = io.BytesIO()
                np.save(buffer, x[20 * k + s])
                for suffix, content in (("npy", buffer.getvalue()), ("cls", b"1")):
                    about = tarfile.TarInfo(f"{s}.{suffix}")
                    about.size = len(content)
                    archive.addfile(about, io.BytesIO(content))
    for memory in (10**6, 0):
        data = divided(DataSpec("s-{0..1}.tar"), INPUTS, Reading(batch=8, memory=memory))
        assert data.labelled
        assert sums(data.train) == pytest.approx(expected(), abs=2e-3)


@pytest.mark.parametrize("memory", [10**6, 0])
def test_held_out_samples_are_not_trained_with(folder: Path, memory: int) -> None:
    how = Reading(batch=1, memory=memory)
    data = divided(DataSpec("mine.py:batches"), INPUTS, how, 0.25)
    train, held = sums(data.train), sums(data.held_out)
    assert 4 <= len(held) <= 16
    assert sorted(train + held) == pytest.approx(expected(), abs=2e-3)


def test_other_data_may_be_held_out(folder: Path) -> None:
    other = arrays(Path("other.npz"), 16, seed=3)
    data = divided(DataSpec("x.npy"), INPUTS, SMALL, 0.25, DataSpec(str(other)))
    assert (data.train.size, data.held_out and data.held_out.size) == (40, 16)
    assert data.indexed == 56  # numbers of both, for one table of answers
    assert isinstance(data.held_out, Indexed)
    assert not data.held_out.shuffle


def test_a_limit_draws_from_all_samples(folder: Path) -> None:
    data = divided(DataSpec("x.npy", limit=10), INPUTS, SMALL)
    assert isinstance(data.train, Indexed)
    assert len(data.train.chosen) == 10
    assert data.train.chosen.max() > 15


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.npz", "no such file"),
        ("mine.py:nothing", "holds no sample"),
        ("mine.py:wrong", "has no function 'wrong'"),
        ("s-{0..3}.tar", "no such file"),
        ("text.txt", "data files are .npz or .npy"),
    ],
)
def test_what_cannot_be_read_is_named(folder: Path, path: str, message: str) -> None:
    Path("text.txt").write_text("hello")
    with pytest.raises(DataError, match=message):
        divided(DataSpec(path), INPUTS, SMALL)


def test_options_for_images_are_refused_for_arrays(folder: Path) -> None:
    for path in ("x.npy", "mine.py:Map"):
        with pytest.raises(DataError, match="are for image files"):
            divided(DataSpec(path, mean=(0.5,)), INPUTS, SMALL)
