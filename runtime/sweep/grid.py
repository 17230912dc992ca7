"""Budgets with ranges, ``flops=0.9..0.3:0.05,params=0.8``, as one budget per point."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from prunec.compiler.budget import ALIASES
from prunec.compiler.errors import UsageError

LARGEST = 1000  # points; more is a slip of the pen in the step
_NUMBER = r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z%]*)"
_RANGE = re.compile(rf"\s*{_NUMBER}\s*\.\.\s*{_NUMBER}\s*:\s*{_NUMBER}\s*")
EXAMPLE = "--budget flops=0.9..0.3:0.05 or --budget 'flops=0.9|0.7|0.5'"


@dataclass(frozen=True, slots=True)
class Grid:
    """labels: a budget per point, as a user would write it. resource: the first with a range."""

    labels: tuple[str, ...]
    resource: str


def parse_grid(budget: str | Iterable[str] | Mapping[str, object]) -> Grid:
    """The points of a budget, in the order written.

    A value is a range ``FIRST..LAST:STEP`` (either direction; LAST is a point where the steps meet
    it), values with ``|`` between them, or one that stays fixed. Resources with several values
    walk together. Raises UsageError for ranges of different lengths and for none at all.

    >>> parse_grid("flops=0.9..0.7:0.1,params=0.8").labels
    ('flops=0.9,params=0.8', 'flops=0.8,params=0.8', 'flops=0.7,params=0.8')
    """
    walks = {name: _values(name, amount) for name, amount in _items(budget)}
    ranged = {name: values for name, values in walks.items() if values is not None}
    if not ranged:
        raise UsageError(f"a sweep needs a budget with a range or a list, such as {EXAMPLE}")
    lengths = {name: len(values) for name, values in ranged.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise UsageError(f"ranges that walk together must have equally many points, not {found}")
    count = next(iter(lengths.values()))
    fixed = dict(_items(budget))
    labels = [
        ",".join(
            f"{name}={fixed[name] if values is None else values[k]}"
            for name, values in walks.items()
        )
        for k in range(count)
    ]
    first = next(iter(ranged))
    return Grid(tuple(dict.fromkeys(labels)), ALIASES.get(first, first))


def _items(budget: str | Iterable[str] | Mapping[str, object]) -> list[tuple[str, str]]:
    """Resource and amount of every part, in order."""
    if isinstance(budget, Mapping):
        return [(str(name), _amount(value)) for name, value in budget.items()]
    texts = [budget] if isinstance(budget, str) else list(budget)
    out: dict[str, str] = {}
    for part in filter(str.strip, (item for text in texts for item in text.split(","))):
        name, equals, amount = (piece.strip() for piece in part.partition("="))
        if not equals or not amount:
            raise UsageError(f"budget {part.strip()!r} needs a value, such as {EXAMPLE}")
        if out.setdefault(name, amount) != amount:
            raise UsageError(f"contradictory budgets: {name} is given twice")
    return list(out.items())


def _amount(value: object) -> str:
    return "|".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _values(name: str, amount: str) -> tuple[str, ...] | None:
    """The values of a resource; None where it has a single one."""
    parts = amount.split("|")
    if len(parts) == 1 and ".." not in amount:
        return None
    out: list[str] = []
    for part in filter(str.strip, parts):
        out += _range(name, part) if ".." in part else [part.strip()]
    if not out:
        raise UsageError(f"budget {name}={amount}: holds no value")
    return tuple(out)


def _range(name: str, text: str) -> Iterator[str]:
    match = _RANGE.fullmatch(text)
    where = f"budget {name}={text.strip()}"
    if match is None:
        raise UsageError(f"{where}: a range is FIRST..LAST:STEP, such as 0.9..0.3:0.05")
    first, last, step = (Decimal(match[k]) for k in (1, 3, 5))
    units = {match[k] for k in (2, 4, 6)}
    if len(units) > 1:
        raise UsageError(f"{where}: first, last and step need the same unit (12M..4M:1M)")
    if step <= 0:
        raise UsageError(f"{where}: the step must be greater than 0")
    count = int(abs(last - first) / step) + 1
    if count > LARGEST:
        raise UsageError(f"{where}: has {count} points, more than {LARGEST}")
    # Decimals, not floats: 0.9 - 3 * 0.05 is 0.75 and nothing beside it.
    for k in range(count):
        value = first + (k * step if last > first else -k * step)
        yield f"{value.normalize():f}{match[2]}"
