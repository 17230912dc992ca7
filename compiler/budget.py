"""Budgets as users write them: ``flops=0.46,bytes=4MB``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from types import MappingProxyType

from prunec.compiler.costs import MEASURED
from prunec.compiler.errors import UsageError
from prunec.compiler.problem import Limit
from prunec.compiler.spec import suggest

ALIASES: Mapping[str, str] = {"macs": "flops"}
UNITS: Mapping[str, int] = {
    "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9,
    "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
TIME_UNITS: Mapping[str, int] = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
IN_BYTES = frozenset({"bytes", "memory"})
SMALLEST_ABSOLUTE = 1000
_NUMBER = re.compile(r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-z%]*)", re.IGNORECASE)


def parse_budget(
    text: str | Iterable[str],
    dense: Mapping[str, int],
    absent: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Limit, ...]:
    """Limits in base units, one per resource, in the order given.

    dense: resource -> cost of the dense model; a ratio is of that total, rounded down. absent:
    resource that other models have -> why this one has none.
    Raises UsageError for unknown resources, bad numbers and contradictions.

    >>> parse_budget("flops=0.5, params=1k", {"flops": 901, "params": 9000})
    (Limit(resource='flops', at_most=450), Limit(resource='params', at_most=1000))
    """
    items = text.split(",") if isinstance(text, str) else [i for t in text for i in t.split(",")]
    limits: dict[str, int] = {}
    for item in filter(str.strip, items):
        name, equals, amount = (part.strip() for part in item.partition("="))
        resource = ALIASES.get(name, name)
        if resource in absent:
            raise UsageError(f"no budget of {resource}: {absent[resource]}")
        if resource not in dense:
            raise UsageError(f"unknown resource {name!r}{suggest(name, [*dense, *ALIASES])}")
        if not equals or not amount:
            raise UsageError(f"budget {item.strip()!r} needs a value, such as {name}=0.5")
        limit = _amount(amount, dense[resource], name)
        if limits.setdefault(resource, limit) != limit:
            raise UsageError(f"contradictory budgets: {resource} is given twice")
    if not limits:
        raise UsageError("no budget given; write one such as --budget flops=0.5")
    return tuple(Limit(resource, limit) for resource, limit in limits.items())


def _amount(text: str, dense: int, name: str) -> int:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise UsageError(f"budget {name}={text}: not a number with an optional unit (0.46, 4MB)")
    number, unit = Fraction(match[1]), match[2].lower()
    if unit == "%":
        number, unit = number / 100, ""
    elif name in MEASURED:
        return _time(number, unit, dense, f"budget {name}={text}")
    elif unit and unit not in UNITS:
        raise UsageError(f"budget {name}={text}: unknown unit {unit!r}{suggest(unit, UNITS)}")
    if unit and unit.endswith("b") and name not in IN_BYTES:
        raise UsageError(
            f"budget {name}={text}: bytes are a unit of the resources 'bytes' and 'memory' only"
        )
    if number <= 0:
        raise UsageError(f"budget {name}={text}: must be greater than 0")
    if unit:
        return int(number * UNITS[unit])
    if number <= 1:
        return int(number * dense)
    if number < SMALLEST_ABSOLUTE or number.denominator != 1:
        raise UsageError(
            f"budget {name}={text}: a ratio is at most 1; an absolute budget needs a unit "
            f"({name}=1.9G) or is a whole number of at least {SMALLEST_ABSOLUTE}"
        )
    return int(number)


def _time(number: Fraction, unit: str, dense: int, said: str) -> int:
    """Nanoseconds."""
    if number <= 0:
        raise UsageError(f"{said}: must be greater than 0")
    if unit and unit not in TIME_UNITS:
        raise UsageError(f"{said}: unknown unit {unit!r}; known: {', '.join(TIME_UNITS)}")
    if not unit and number > 1:
        raise UsageError(f"{said}: a ratio is at most 1; a time needs a unit (8ms, 500us)")
    return int(number * TIME_UNITS[unit]) if unit else int(number * dense)
