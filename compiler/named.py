"""JSON files of one number per hyperedge name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from prunec.compiler.errors import UsageError


def read_numbers(
    path: str | Path, what: str, wanted: str, fits: Callable[[float], bool]
) -> dict[str, float]:
    """The numbers by name. what: which they are; wanted: of what kind; for messages.

    Raises UsageError for a file that can't be read, is no object, or holds what does not fit.
    """
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # a JSONDecodeError or UnicodeDecodeError
        raise UsageError(f"{path}: is not JSON: {error}") from error
    if not isinstance(table, dict):
        raise UsageError(f"{path}: must be an object of {what} by hyperedge name")
    for name, number in table.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not fits(number):
            raise UsageError(f"{path}: {name!r}: must be {wanted}, not {number!r}")
    return {name: float(number) for name, number in table.items()}
