"""WebDataset shards, read without unpickling anything."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from training_nets import flat, images, net

from prunec.compiler.errors import DataError
from prunec.frontends.onnx import load
from prunec.runtime.images import Preparation
from prunec.runtime.inputs import model_inputs
from prunec.runtime.training.batch import Shard
from prunec.runtime.training.shards import Shards, is_shards, members, shard_files

INPUTS = model_inputs(load(net()))


def write(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return path


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def png(pixels: np.ndarray) -> bytes:
    image = pytest.importorskip("PIL.Image")
    buffer = io.BytesIO()
    image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def numbered(folder: Path, files: int = 4, each: int = 5) -> Shards:
    for k in range(files):
        content = {}
        for s in range(each):
            content[f"{s:03}.npy"] = npy(np.zeros((3, 4, 4), np.float32))
            content[f"{s:03}.cls"] = str(k * each + s).encode()
        write(folder / f"s-{k:02}.tar", content)
    paths = shard_files(str(folder / f"s-{{00..{files - 1:02}}}.tar"))
    return Shards(paths, INPUTS, Preparation())


def labels(shards: Shards, epoch: int, shard: Shard) -> list[int]:
    found = (chunk.labels for chunk in shards(epoch, shard))
    return [int(each[0]) for each in found if each is not None]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_neighbours_of_one_name_are_a_sample(tmp_path: Path, mode: str) -> None:
    files = {"a/0.cls": b"3\n", "a/0.npy": b"x", "a/.hidden": b"", "a/1.cls": b"4"}
    found = list(members(write(tmp_path / "s.tar", files, mode)))
    assert found == [("a/0", {"cls": b"3\n", "npy": b"x"}), ("a/1", {"cls": b"4"})]


def test_files_are_divided_among_processes_and_shuffled_each_epoch(tmp_path: Path) -> None:
    shards = numbered(tmp_path)
    assert labels(shards, 0, Shard()) == list(range(20))
    assert sorted(labels(shards, 1, Shard())) == list(range(20))
    assert any(labels(shards, e, Shard()) != list(range(20)) for e in (1, 2, 3))
    parts = [labels(shards, 1, Shard(rank, 2)) for rank in range(2)]
    assert sorted(flat(parts)) == list(range(20))


def test_more_processes_than_files_share_them(tmp_path: Path) -> None:
    shards = numbered(tmp_path, files=1)
    parts = [labels(shards, 1, Shard(rank, 3)) for rank in range(3)]
    assert sorted(flat(parts)) == list(range(5))


def test_images_are_prepared_as_those_of_a_folder_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    write(tmp_path / "s.tar", {"0.png": png(pixels), "0.cls": b"2"})
    preparation = Preparation(mean=(0.5,), std=(0.25,))
    (chunk,) = Shards([tmp_path / "s.tar"], INPUTS, preparation)(0, Shard())
    expected = (pixels.transpose(2, 0, 1)[None] / 255 - 0.5) / 0.25
    np.testing.assert_allclose(chunk.feeds["x"], expected, rtol=1e-5)
    assert chunk.labels is not None
    assert chunk.labels.tolist() == [2]


def test_arrays_go_by_the_name_in_front_of_the_suffix(tmp_path: Path) -> None:
    x, _ = images(1)
    write(tmp_path / "s.tar", {"0.x.npy": npy(x[0]), "0.other.npy": npy(x[0] + 1), "0.cls": b"0"})
    (chunk,) = Shards([tmp_path / "s.tar"], INPUTS, Preparation())(0, Shard())
    np.testing.assert_array_equal(chunk.feeds["x"], x)


def test_archives_of_arrays_hold_inputs_and_labels(tmp_path: Path) -> None:
    x, _ = images(1)
    buffer = io.BytesIO()
    np.savez(buffer, x=x[0], labels=np.array(3))
    write(tmp_path / "s.tar", {"0.npz": buffer.getvalue()})
    (chunk,) = Shards([tmp_path / "s.tar"], INPUTS, Preparation())(0, Shard())
    np.testing.assert_array_equal(chunk.feeds["x"], x)
    assert chunk.labels is not None
    assert chunk.labels.tolist() == [3]


def test_pickled_members_are_never_read(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "sprung").touch, ())

    objects = np.empty(1, object)
    objects[0] = 1
    buffer = io.BytesIO()
    np.save(buffer, objects, allow_pickle=True)
    for name, data in {"0.pyd": pickle.dumps(1), "0.npy": buffer.getvalue()}.items():
        write(tmp_path / "s.tar", {name: data, "0.cls": b"1"})
        with pytest.raises(DataError, match=r"pickle|not readable"):
            list(Shards([tmp_path / "s.tar"], INPUTS, Preparation())(0, Shard()))


def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.tar").write_bytes(b"no tar" * 300)
    with pytest.raises(DataError, match="not a readable tar file"):
        list(members(tmp_path / "broken.tar"))
    with pytest.raises(DataError, match=r"s-1\.tar: no such file"):
        shard_files(str(tmp_path / "s-{1..3}.tar"))
    write(tmp_path / "s.tar", {"0.npy": npy(images(1)[0][0]), "0.cls": b"cat"})
    with pytest.raises(DataError, match="must hold one whole number"):
        list(Shards([tmp_path / "s.tar"], INPUTS, Preparation())(0, Shard()))


def test_folders_and_patterns_are_found(tmp_path: Path) -> None:
    numbered(tmp_path, files=3)
    names = ["s-00.tar", "s-01.tar", "s-02.tar"]
    for path in (str(tmp_path), str(tmp_path / "s-*.tar"), str(tmp_path / "s-{00,01,02}.tar")):
        assert is_shards(path)
        assert [file.name for file in shard_files(path)] == names
    assert not is_shards("data.npz")
