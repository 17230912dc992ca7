"""A table of figures against their bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. least, most: the bar, or None where there is none."""

    name: str
    value: float | None
    unit: str = ""
    least: float | None = None
    most: float | None = None
    form: str = ".3f"
    note: str = ""

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

    def bar(self) -> str:
        """The bar as text."""
        low = "" if self.least is None else f">= {self.least:g}"
        high = "" if self.most is None else f"<= {self.most:g}"
        return " and ".join(part for part in (low, high) if part)


def report(figures: Sequence[Figure]) -> int:
    """Print the table; 0 when every bar is met, else 1."""
    width = max(len(f.name) for f in figures)
    for f in figures:
        shown = "-" if f.value is None else f"{format(f.value, f.form)} {f.unit}".strip()
        verdict = "" if not f.bar() else "PASS" if f.passed else "FAIL"
        print(f"{f.name:{width}}  {shown:>14}  {f.bar():22} {verdict:4}  {f.note}".rstrip())
    passed = all(f.passed for f in figures)
    print("PASS" if passed else "FAIL")
    return int(not passed)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
