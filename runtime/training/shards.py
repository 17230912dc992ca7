"""WebDataset shards: tar files whose members of one name are one sample.

Read with the standard library: what the `webdataset` package adds (pipelines, remote files,
decoders that unpickle) is not needed here. Members that would have to be unpickled are never read.
Source: the WebDataset format, https://github.com/webdataset/webdataset (naming of members).
"""

from __future__ import annotations

import glob
import io
import itertools
import re
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from prunec.compiler.errors import DataError, first_line
from prunec.runtime.chunks import Chunk, chunk_of
from prunec.runtime.images import SUFFIXES, Member, Preparation, read_images
from prunec.runtime.inputs import Array, InputSpec
from prunec.runtime.training.batch import Shard
from prunec.runtime.training.streams import every

KINDS = (".tar", ".tar.gz", ".tgz")
Sample = dict[str, bytes]  # extension -> contents
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")


def is_shards(path: str) -> bool:
    """Whether a path names tar files, or a folder that holds some."""
    folder = Path(path)
    if folder.is_dir():
        return any(p.name.endswith(KINDS) for p in folder.iterdir())
    return path.endswith(KINDS)


def expand(pattern: str) -> list[str]:
    """The names that ``{000..009}`` and ``{a,b}`` stand for.

    >>> expand("s-{08..10}.tar")
    ['s-08.tar', 's-09.tar', 's-10.tar']
    >>> expand("{a,b}{0..1}.tar")
    ['a0.tar', 'a1.tar', 'b0.tar', 'b1.tar']
    """
    choice = _CHOICE.search(pattern)
    if choice:
        words = choice[1].split(",")
    else:
        choice = _RANGE.search(pattern)
        if choice is None:
            return [pattern]
        first, last = int(choice[1]), int(choice[2])
        words = [str(k).zfill(len(choice[1])) for k in range(first, last + 1)]
    head, tail = pattern[: choice.start()], pattern[choice.end() :]
    return [name for word in words for name in expand(head + word + tail)]


def shard_files(path: str) -> list[Path]:
    """The tar files in order. Raises DataError where one is missing."""
    folder = Path(path)
    if folder.is_dir():
        return sorted(p for p in folder.iterdir() if p.name.endswith(KINDS))
    names = [Path(path)] if folder.is_file() else list(map(Path, expand(path)))
    files = [f for name in names for f in (_matching(name) if "*" in str(name) else [name])]
    missing = next((f for f in files if not f.is_file()), None)
    if missing is not None or not files:
        raise DataError(f"{missing or path}: no such file")
    return files


def _matching(pattern: Path) -> list[Path]:
    return sorted(map(Path, glob.glob(str(pattern))))


@dataclass(frozen=True, slots=True, eq=False)
class Shards:
    """Tar files as a source of samples.

    With at least as many files as processes each process reads its own files, else each reads all
    and takes its samples. Files come in another order each epoch but the 0th.
    """

    files: Sequence[Path]
    inputs: tuple[InputSpec, ...]
    preparation: Preparation
    seed: int = 0

    def __call__(self, epoch: int, shard: Shard) -> Iterator[Chunk]:
        """Samples one by one, for one process."""
        order = list(range(len(self.files)))
        if epoch:
            order = np.random.default_rng([self.seed, epoch, 0x7A4]).permutation(order).tolist()
        # Files go to processes by their place in the list, not in this order: what is held out is
        # decided per process.
        if len(self.files) >= shard.world:
            own = [k for k in order if k % shard.world == shard.rank]
            return self._chunks([self.files[k] for k in own])
        return every(lambda: self._chunks([self.files[k] for k in order]), shard)

    def _chunks(self, files: Sequence[Path]) -> Iterator[Chunk]:
        for file in files:
            for key, sample in members(file):
                yield chunk_of(self._arrays(sample, f"{file}: {key}"), self.inputs, str(file))

    def _arrays(self, sample: Sample, where: str) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for extension, data in sample.items():
            kind = "." + extension.rpartition(".")[2]
            name = extension.rpartition(".")[0]
            if kind == ".cls":
                found["labels"] = np.array([_integer(data, where)])
            elif kind == ".npy":
                found[name or "x"] = self._single(_numpy(data, where), name)
            elif kind == ".npz":
                arrays = _numpy_archive(data, where)
                found |= {n: self._single(a, n) for n, a in arrays.items()}
            elif kind in SUFFIXES:
                source = [Member(f"{where}.{extension}", data)]
                spec = self.inputs[0]
                found[spec.name] = next(read_images(source, spec, self.preparation))[1]
        if not set(found) - {"labels"}:
            raise DataError(
                f"{where}: holds {', '.join('.' + e for e in sample)}; a sample needs an image, a "
                ".npy or a .npz member (pickled members are never read)"
            )
        return found

    def _single(self, array: Array, name: str) -> Array:
        """One sample as a batch of one, where its rank doesn't tell."""
        spec = next((s for s in self.inputs if s.name == name), None)
        if spec is None and len(self.inputs) == 1 and name not in ("labels", "label"):
            spec = self.inputs[0]
        full = spec is not None and spec.shape is not None and array.ndim == len(spec.shape)
        return array if full else array[None]


def members(file: Path) -> Iterator[tuple[str, Sample]]:
    """Samples of a tar file: key and contents by extension, neighbours of one key together."""
    try:
        with tarfile.open(file, "r|*") as archive:
            for key, group in itertools.groupby(_files(archive), lambda member: member[0]):
                yield key, {extension: data for _, extension, data in group}
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{file}: not a readable tar file ({first_line(error)})") from error


def _files(archive: tarfile.TarFile) -> Iterator[tuple[str, str, bytes]]:
    for member in archive:
        archive.members = []  # type: ignore[attr-defined]  # tarfile remembers all of them, which would grow without bound
        path = PurePosixPath(member.name)
        if not member.isfile() or path.name.startswith("."):
            continue
        content = archive.extractfile(member)
        stem, _, extension = path.name.partition(".")
        assert content is not None
        yield str(path.with_name(stem)), extension.lower(), content.read()


def _integer(data: bytes, where: str) -> int:
    try:
        return int(data.decode().strip())
    except ValueError as error:
        raise DataError(f"{where}.cls: must hold one whole number") from error


def _numpy(data: bytes, where: str) -> Array:
    try:
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{where}.npy: not readable ({first_line(error)})") from error


def _numpy_archive(data: bytes, where: str) -> dict[str, Array]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{where}.npz: not readable ({first_line(error)})") from error
