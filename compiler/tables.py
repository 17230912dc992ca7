"""Tables of rows by operator, one per family, put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Row = TypeVar("Row")


def merge(*tables: Mapping[str, Row]) -> dict[str, Row]:
    """One table out of many; an operator with two rows is a mistake."""
    merged: dict[str, Row] = {}
    for table in tables:
        twice = merged.keys() & table.keys()
        assert not twice, f"operators with two rows: {sorted(twice)}"
        merged.update(table)
    return merged
