"""Components and their text form: ``milp{backend=cbc,gap=0.001}`` <-> a frozen dataclass."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from prunec.compiler.errors import UsageError

T = TypeVar("T")


def suggest(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known word, else the list of known words."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"; known: {shown}" if names else ""


def parse(text: str, table: Mapping[str, type[T]], kind: str) -> T:
    """Build the component that `text` names, with the options in its braces.

    kind: what the table holds, for messages ("criterion", "solver"). Raises UsageError.
    """
    name, brace, rest = text.strip().partition("{")
    name = name.strip()
    if brace and not rest.rstrip().endswith("}"):
        raise UsageError(f"{kind} {text!r}: the option list must end with '}}'")
    if name not in table:
        raise UsageError(f"unknown {kind} {name!r}{suggest(name, table)}")
    cls: Any = table[name]
    hints = typing.get_type_hints(cls)
    known = {f.name: hints[f.name] for f in fields(cls)}
    options: dict[str, object] = {}
    for item in rest.rstrip().removesuffix("}").split(","):
        if not item.strip():
            continue
        key, equals, value = (part.strip() for part in item.partition("="))
        if key not in known:
            raise UsageError(f"{kind} {name!r} has no option {key!r}{suggest(key, known)}")
        if not equals:
            raise UsageError(f"{kind} {name!r}: option {key!r} needs a value ({key}=...)")
        options[key] = _convert(value, known[key], f"{kind} {name!r}: option {key!r}")
    return typing.cast(T, cls(**options))


def _convert(text: str, hint: Any, where: str) -> object:
    choices = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for choice in choices:
        if choice is type(None) and text.lower() in ("none", "null"):
            return None
        if choice is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if choice in (int, float):
            try:
                return choice(text)
            except ValueError:
                continue
        if choice is str:
            return text
    wanted = " or ".join(getattr(c, "__name__", str(c)) for c in choices)
    raise UsageError(f"{where} must be {wanted}, not {text!r}")


def render(component: Any) -> str:
    """The text form of a component, with every option that differs from its default."""
    shown = []
    for f in fields(component):
        value = getattr(component, f.name)
        if f.default is MISSING or value != f.default:
            shown.append(f"{f.name}={str(value).lower() if isinstance(value, bool) else value}")
    return str(component.name) + (f"{{{','.join(shown)}}}" if shown else "")


def describe(table: Mapping[str, type[Any]]) -> str:
    """One line per component for ``--help``: name, options with defaults, first docstring line."""
    lines = []
    for name, cls in table.items():
        options = ",".join(f"{f.name}={f.default}" for f in fields(cls))
        lines.append(f"{name}{{{options}}}" if options else name)
        lines[-1] += f": {(cls.__doc__ or '').strip().splitlines()[0]}"
    return "\n".join(lines)
