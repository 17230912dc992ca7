"""Measured times in a file: cells by what they compute, under the machine and the runtime."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prunec.compiler.errors import ProfileError
from prunec.compiler.latency import Samples
from prunec.runtime.latency.half_edge import Halves
from prunec.runtime.session import import_onnxruntime
from prunec.runtime.stage import staged
from prunec.runtime.subject import Subject

SCHEMA = 1
MOST = 10**15  # of every number in a file: eleven days in nanoseconds
Row = tuple[int, ...]  # sizes of the factors, then nanoseconds
Cells = dict[str, list[Row]]


@dataclass(frozen=True, slots=True, order=True)
class Setup:
    """What times hold for. device: the processor's name. threads: 0, onnxruntime chose."""

    device: str
    provider: str
    threads: int
    precision: str
    onnxruntime: str

    def __str__(self) -> str:
        return (
            f"{self.device}, {self.provider}, {_threads(self.threads)}, {self.precision}, "
            f"onnxruntime {self.onnxruntime}"
        )


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count != 1)}" if count else "as many threads as it likes"


@dataclass(slots=True)
class Measured:
    """Times of one setup. cells: key -> rows. models: design -> slim models measured of it.

    halves: model and its input shapes -> its hyperedges at half their channels.
    """

    cells: Cells = field(default_factory=dict)
    models: dict[str, int] = field(default_factory=dict)
    halves: dict[str, Halves] = field(default_factory=dict)

    def samples(self, key: str) -> Samples | None:
        """Measurements of a cell, or None."""
        rows = self.cells.get(key)
        if not rows:
            return None
        table = np.array(rows, np.int64)
        return Samples.of(table[:, :-1], table[:, -1].astype(np.float64))

    def add(self, key: str, row: Row) -> None:
        """One more measurement."""
        self.cells.setdefault(key, []).append(row)


Profile = dict[Setup, Measured]


def setup_of(subject: Subject, provider: str, threads: int) -> Setup:
    """The setup of this machine for a model."""
    dtypes = subject.facts.dtypes
    weights = {str(dtypes[w.value]) for w in subject.graph.weights if w.counted}
    return Setup(
        device=device_name(provider),
        provider=provider,
        threads=threads,
        precision="+".join(sorted(weights)) or "none",
        onnxruntime=str(import_onnxruntime().__version__),
    )


def device_name(provider: str) -> str:
    """What the processor calls itself."""
    if provider == "cuda" and shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", "--id=0"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode == 0 and ran.stdout.strip():
            return ran.stdout.strip()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def choose(profile: Profile, wanted: Setup, path: Path | str) -> tuple[Setup, Measured]:
    """The part of a profile for this provider, number of threads and precision.

    This machine's where it is there; else the only one. Raises ProfileError.
    """
    if wanted in profile:
        return wanted, profile[wanted]
    near = [
        s
        for s in sorted(profile)
        if (s.provider, s.threads, s.precision)
        == (wanted.provider, wanted.threads, wanted.precision)
    ]
    if len(near) == 1:
        return near[0], profile[near[0]]
    held = "; ".join(map(str, sorted(profile))) or "nothing"
    if near:
        raise ProfileError(
            f"{path}: holds {len(near)} machines of this kind and none is this one ({held}); "
            "keep one of them in a file of its own"
        )
    raise ProfileError(
        f"{path}: was not measured with {wanted.provider}, {_threads(wanted.threads)} and "
        f"{wanted.precision}; it holds {held}"
    )


def merge(into: Profile, other: Profile) -> None:
    """Add the measurements of another profile.

    A row stands as often as in the one that has it more often: what both have is not counted
    twice, and what one machine measured twice with the same result keeps its weight. Raises
    ProfileError.
    """
    for setup, measured in other.items():
        own = into.setdefault(setup, Measured())
        for key, rows in measured.cells.items():
            known = own.cells.setdefault(key, [])
            if known and rows and len(known[0]) != len(rows[0]):
                raise ProfileError(f"profiles differ in how many sizes cell {key[:80]} has")
            known.extend((Counter(rows) - Counter(known)).elements())
        for name, count in measured.models.items():
            own.models[name] = max(count, own.models.get(name, 0))
        own.halves.update(measured.halves)


def to_json(profile: Profile) -> str:
    """Text with one cell a line, sorted: differences read well."""
    parts = []
    for setup in sorted(profile):
        measured = profile[setup]
        halves = {name: asdict(own) for name, own in measured.halves.items()}
        cells = ",\n".join(
            f"    {json.dumps(key)}: {json.dumps(sorted(rows), separators=(',', ':'))}"
            for key, rows in sorted(measured.cells.items())
        )
        parts.append(
            f'  {{"setup": {json.dumps(asdict(setup))},\n'
            f'   "models": {json.dumps(measured.models, sort_keys=True)},\n'
            f'   "halves": {json.dumps(halves, sort_keys=True)},\n'
            f'   "cells": {{\n{cells}\n  }}}}'
        )
    return f'{{"schema": {SCHEMA}, "unit": "ns", "profiles": [\n' + ",\n".join(parts) + "\n]}\n"


def from_json(text: str, path: Path | str) -> Profile:
    """Inverse of `to_json`. Raises ProfileError that names the file and the bad field."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path}: is not JSON: {error}") from None
    if not isinstance(body, dict) or not isinstance(body.get("profiles"), list):
        raise ProfileError(f"{path}: is not a latency profile (no list $.profiles)")
    if body.get("schema") != SCHEMA:
        raise ProfileError(f"{path}: $.schema is {body.get('schema')}, this version reads {SCHEMA}")
    out: Profile = {}
    for number, part in enumerate(body["profiles"]):
        where = f"{path}: $.profiles[{number}]"
        try:
            setup = _setup(part["setup"])
            measured = Measured(
                {key: _rows(key, rows) for key, rows in part["cells"].items()},
                {name: _whole(count) for name, count in part["models"].items()},
                {name: _halves(own) for name, own in part.get("halves", {}).items()},
            )
        except KeyError as error:
            raise ProfileError(f"{where}: malformed (no {error})") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise ProfileError(f"{where}: malformed ({error})") from None
        merge(out, {setup: measured})
    return out


def _setup(fields: Mapping[str, Any]) -> Setup:
    setup = Setup(**fields)
    _whole(setup.threads)
    for name, value in asdict(setup).items():
        # What is printed must not steer a terminal.
        if name != "threads" and not (isinstance(value, str) and value.isprintable()):
            raise ValueError(f"setup.{name} must be printable text, not {_short(value)}")
    return setup


def _rows(key: str, rows: object) -> list[Row]:
    """Rows of a cell: equally long, sizes of at least 1, then nanoseconds."""
    if not isinstance(rows, list) or not rows or not all(isinstance(r, list) and r for r in rows):
        raise ValueError(f"cells[{key!r}] must be a list of rows")
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"the rows of cells[{key!r}] must be equally long")
    return [(*(_whole(size, 1) for size in row[:-1]), _whole(row[-1])) for row in rows]


def _halves(fields: Mapping[str, Any]) -> Halves:
    edges = {name: _whole(taken) for name, taken in fields["edges"].items()}
    return Halves(_whole(fields["dense"], int(bool(edges))), edges)


def _whole(value: object, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= MOST:
        raise ValueError(f"{_short(value)} is no whole number from {least} to {MOST:.0e}")
    return value


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # more digits than Python likes to print
        return "so large a number"
    return text if len(text) <= 40 else text[:37] + "..."


def read_profile(path: Path) -> Profile:
    """Raises ProfileError."""
    try:
        return from_json(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError:
        raise ProfileError(f"{path}: is not a latency profile (a binary file)") from None
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror or error}") from None


def write_profile(profile: Mapping[Setup, Measured], path: Path) -> None:
    """Write atomically: an interrupted run leaves the old file or the new one."""
    with staged([path]) as stage:
        stage[path].write_text(to_json(dict(profile)), encoding="utf-8")
