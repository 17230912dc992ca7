"""The compiler with one call to the coupler left out: what the oracle must notice."""

from __future__ import annotations

import ast
import re
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
KINDS = ("tie", "factor", "freeze", "inexact")
RULES_FOLDER = Path(labels_module.__file__).parent / "rules"


def _location(frame: FrameType) -> Location | None:
    path = Path(frame.f_code.co_filename)
    if path.parent == RULES_FOLDER or path.name == "factors.py":
        return path.name, frame.f_lineno
    return None


def written() -> set[tuple[str, Location]]:
    """(kind, location) of every call in the rules' sources."""
    found = set()
    for path in (*sorted(RULES_FOLDER.glob("*.py")), RULES_FOLDER.parent / "factors.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=kind)):
                    if name == "c" and kind in KINDS:
                        found.add((kind, (path.name, node.lineno)))
    return found


def line_of(location: Location) -> str:
    """The call at a location on one line, as it would be written without a line limit."""
    name, number = location
    folder = RULES_FOLDER if (RULES_FOLDER / name).exists() else RULES_FOLDER.parent
    source = (folder / name).read_text()
    calls = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call))
    texts = [ast.get_source_segment(source, n) or "" for n in calls if n.lineno == number]
    flat = re.sub(r"\s+", " ", max(texts, key=len, default=""))
    return re.sub(r",? \)", ")", flat.replace("( ", "("))


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

    def tie(self, left: Any, right: Any, reason: str = "", barrier: Any = None) -> None:
        if left is not right and not self._skipped("tie", sys._getframe(1)):
            super().tie(left, right, reason, barrier)

    def factor(self, cells: Any, factors: Any) -> None:
        if not self._skipped("factor", sys._getframe(1)):
            super().factor(cells, factors)

    def freeze(self, labels: Any, reason: Any, text: str) -> None:
        if labels.any() and not self._skipped("freeze", sys._getframe(1)):
            Coupler.tie(self, labels, labels_module.np.zeros(1, "int64"), text, reason)

    def inexact(self, labels: Any, reason: Any, text: str) -> None:
        if labels.any() and not self._skipped("inexact", sys._getframe(1)):
            if self.freedom.residual:
                super().inexact(labels, reason, text)
            else:
                Coupler.tie(self, labels, labels_module.np.zeros(1, "int64"), text, reason)


@contextmanager
def without(location: Location | None) -> Iterator[set[tuple[str, Location]]]:
    """Interpretations inside leave out the calls at `location`; yields the (kind, location) met."""

    class Mutant(Watched):
        pass

    Mutant.seen = set()
    Mutant.without = location
    original = interpreter.Coupler
    interpreter.Coupler = Mutant
    try:
        yield Mutant.seen
    finally:
        interpreter.Coupler = original
