"""Rows that other packages add to the tables, through entry points."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from prunec.compiler.errors import UsageError

GROUPS = ("prunec.rules", "prunec.criteria", "prunec.solvers", "prunec.recoveries")


def extended(table: Mapping[str, Any], group: str) -> dict[str, Any]:
    """A table with the rows of an entry-point group; a row's name is the entry point's name.

    An operator of another domain is named ``domain.OpType`` there (entry points allow no colons)
    and becomes ``domain::OpType``. Raises UsageError for a name that is taken and for an entry
    that can't be loaded.
    """
    assert group in GROUPS, group
    rows = dict(table)
    for entry in sorted(importlib.metadata.entry_points(group=group), key=lambda e: e.name):
        name = entry.name
        if group == "prunec.rules" and "." in name:
            domain, _, op_type = name.rpartition(".")
            name = f"{domain}::{op_type}"
        if name in rows:
            raise UsageError(f"extension {entry.value} of group {group}: {name!r} exists already")
        try:
            rows[name] = entry.load()
        except (ImportError, AttributeError) as error:
            raise UsageError(f"extension {entry.value} of group {group}: {error}") from error
    return rows
