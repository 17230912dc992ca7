"""Reading plans from files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from prunec.compiler.errors import PlanError

if TYPE_CHECKING:
    from prunec.compiler.plan import Plan


def read_plan(path: Path) -> Plan:
    """The plan in a file. Raises PlanError that names the file and the JSON path of the fault."""
    from prunec.compiler.plan import Plan

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path}: is not a plan (a binary file)") from error
    with blamed_on(path):
        return Plan.from_json(text)


@contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """Let the faults that are found in a plan name its file."""
    try:
        yield
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from error


def looks_like_plan(path: Path) -> bool:
    """Whether a file holds JSON rather than protobuf. Raises PlanError if it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip()[:1] == b"{"
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror or error}") from error
