"""A table of figures against their bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. least, most: the bar, or None where there is none.

    excuse: why a bar that is missed is no fault of what was measured, "" where it is one.
    """

    name: str
    value: float | None
    unit: str = ""
    least: float | None = None
    most: float | None = None
    form: str = ".3f"
    note: str = ""
    excuse: str = ""

    @property
    def passed(self) -> bool:
        """Whether the bar is met; a figure that could not be measured does not meet one."""
        if self.least is None and self.most is None:
            return True
        if self.value is None:
            return False
        return (self.least is None or self.value >= self.least) and (
            self.most is None or self.value <= self.most
        )

    @property
    def verdict(self) -> str:
        """PASS, FAIL, or MISSED where there is an excuse; empty without a bar."""
        if not self.bar():
            return ""
        return "PASS" if self.passed else "MISSED" if self.excuse else "FAIL"

    def bar(self) -> str:
        """The bar as text."""
        low = "" if self.least is None else f">= {self.least:g}"
        high = "" if self.most is None else f"<= {self.most:g}"
        return " and ".join(part for part in (low, high) if part)


def report(figures: Sequence[Figure]) -> int:
    """Print the table; 0 when every bar is met or its miss is excused, else 1.

    An excused miss is never called a pass: it is said again at the end, with the number and why.
    """
    width = max(len(f.name) for f in figures)
    for f in figures:
        shown = "-" if f.value is None else f"{format(f.value, f.form)} {f.unit}".strip()
        print(f"{f.name:{width}}  {shown:>14}  {f.bar():22} {f.verdict:6}  {f.note}".rstrip())
    missed = [f for f in figures if f.verdict == "MISSED"]
    for f in missed:
        reached = "-" if f.value is None else f"{format(f.value, f.form)} {f.unit}".strip()
        print(f"NOT REACHED  {f.name}: {reached}, the bar is {f.bar()} {f.unit}".rstrip())
        print(f"             because {f.excuse}")
    failed = any(f.verdict == "FAIL" for f in figures)
    others = f" but for {len(missed)} not reached" if missed else ""
    print("FAIL" if failed else f"PASS{others}")
    return int(failed)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
