"""The compiler with one call to the coupler left out: what the oracle must notice."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from prunec.compiler import interpret as interpreter
from prunec.compiler import labels as labels_module
from prunec.compiler.labels import Coupler

Location = tuple[str, int]  # file name of the rule, line of the call
RULES_FOLDER = Path(labels_module.__file__).parent / "rules"


def _location(frame: FrameType) -> Location | None:
    path = Path(frame.f_code.co_filename)
    if path.parent == RULES_FOLDER or path.name == "labels.py":
        return path.name, frame.f_lineno
    return None


def written() -> set[tuple[str, Location]]:
    """(kind, location) of every call in the rules' sources."""
    found = set()
    for path in (*sorted(RULES_FOLDER.glob("*.py")), Path(labels_module.__file__)):
        owner = "c" if path.parent == RULES_FOLDER else "self"
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=kind)):
                    if name == owner and kind in ("tie", "factor", "freeze"):
                        found.add((kind, (path.name, node.lineno)))
    # `freeze` is itself written as a tie.
    return {x for x in found if x[0] != "tie" or x[1][0] != "labels.py" or "cells" in line_of(x[1])}


def line_of(location: Location) -> str:
    name, number = location
    folder = RULES_FOLDER if (RULES_FOLDER / name).exists() else RULES_FOLDER.parent
    return (folder / name).read_text().splitlines()[number - 1].strip()


class Watched(Coupler):
    """Records which lines tie, relate or freeze; leaves out those of one location."""

    seen: set[tuple[str, Location]]
    without: Location | None

    def _skipped(self, kind: str, frame: FrameType) -> bool:
        where = _location(frame)
        if where is None:
            return False
        type(self).seen.add((kind, where))
        return where == type(self).without

    def tie(self, left: Any, right: Any, reason: str = "") -> None:
        if left is not right and not self._skipped("tie", sys._getframe(1)):
            super().tie(left, right, reason)

    def factor(self, cells: Any, factors: Any) -> None:
        if not self._skipped("factor", sys._getframe(1)):
            super().factor(cells, factors)

    def freeze(self, labels: Any, reason: str) -> None:
        if labels.any() and not self._skipped("freeze", sys._getframe(1)):
            Coupler.tie(self, labels, labels_module.np.zeros(1, "int64"), reason)


@contextmanager
def without(location: Location | None) -> Iterator[set[tuple[str, Location]]]:
    """Interpretations inside leave out the calls at `location`; yields the (kind, location) met."""

    class Mutant(Watched):
        pass

    Mutant.seen = set()
    Mutant.without = location
    original = interpreter.Coupler
    interpreter.Coupler = Mutant  # type: ignore[misc]
    try:
        yield Mutant.seen
    finally:
        interpreter.Coupler = original  # type: ignore[misc]
