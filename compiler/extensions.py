"""Rows that others add to the tables: through entry points, or in a module that the user names."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from prunec.compiler.diagnostics import Diagnostic, Severity
from prunec.compiler.errors import UsageError
from prunec.compiler.labels import AxisLabels, Coupler, Unsupported
from prunec.compiler.rules import RULES
from prunec.compiler.site import Rule, Site

GROUPS = ("prunec.rules", "prunec.criteria", "prunec.solvers", "prunec.recoveries")
TABLES = ("RULES", "COUNTERS", "SHAPES")
Shape = tuple[int, ...]
Source = str | Path | ModuleType


@dataclass(frozen=True, slots=True, eq=False)
class Extensions:
    """Rules for operators that prunec does not know, or knows less well than the user.

    Keys of the tables are "domain::OpType", or an op type of the default domain. names: of the
    user's modules, as a plan records them. rules: all that is installed. counters: node, shapes of
    its inputs (() for an absent one) and of its first output -> multiply-accumulates. shapes: node,
    shapes of its inputs -> shapes of its outputs. replaced: op -> module, where the module's rule
    takes the place of prunec's own.
    """

    names: tuple[str, ...] = ()
    rules: Mapping[str, Rule] = field(default_factory=lambda: dict(RULES))
    counters: Mapping[str, Callable[..., int]] = field(default_factory=dict)
    shapes: Mapping[str, Callable[..., Sequence[Shape]]] = field(default_factory=dict)
    replaced: Mapping[str, str] = field(default_factory=dict)

    def diagnostics(self, ops: set[str]) -> Iterator[Diagnostic]:
        """What a user should know of the rules for the operators of a model."""
        for op, module in sorted(self.replaced.items()):
            if op in ops:
                yield Diagnostic(
                    "rule-replaced",
                    "",
                    f"the rule of {module} for {op} takes the place of prunec's own",
                    Severity.INFO,
                )


def extended(table: Mapping[str, Any], group: str) -> dict[str, Any]:
    """A table with the rows of an entry-point group; a row's name is the entry point's name.

    Raises UsageError for a name that is taken and for an entry that can't be loaded.
    """
    rows = dict(table)
    for name, where, component in _entries(group):
        _add(rows, name, component, where)
    return rows


def _entries(group: str) -> Iterator[tuple[str, str, Any]]:
    """Name, origin and object of every entry point of a group, sorted by name."""
    assert group in GROUPS, group
    for entry in sorted(importlib.metadata.entry_points(group=group), key=lambda e: e.name):
        where = f"extension {entry.value} of group {group}"
        try:
            yield entry.name, where, entry.load()
        except (ImportError, AttributeError) as error:
            raise UsageError(f"{where}: {error}") from error


def _add(rows: dict[str, Any], name: str, component: Any, where: str) -> None:
    if name in rows:
        raise UsageError(f"{where}: {name!r} exists already")
    rows[name] = component


def _installed() -> dict[str, dict[str, Any]]:
    """prunec's own rules and the tables of installed packages.

    An entry point is a module with tables, or one rule. An operator of another domain is named
    ``domain.OpType`` there (entry points allow no colons) and becomes ``domain::OpType``.
    """
    tables: dict[str, dict[str, Any]] = {"RULES": dict(RULES), "COUNTERS": {}, "SHAPES": {}}
    for name, where, found in _entries("prunec.rules"):
        if isinstance(found, ModuleType):
            for table in TABLES:
                for op, function in _rows(found, where, table).items():
                    _add(tables[table], op, _wrapped(table, function, where), where)
            continue
        domain, _, op_type = name.rpartition(".")
        op = f"{domain}::{op_type}" if domain else op_type
        _add(tables["RULES"], op, _guarded(found, where), where)
    return tables


def load_extensions(sources: Sequence[Source] = ()) -> Extensions:
    """prunec's own rules, those of installed packages, then those of the user's modules.

    sources: importable names, paths of Python files, or modules, with a mapping RULES and, if they
    need them, COUNTERS and SHAPES (see `Extensions`). A module's rules win over what is installed.
    Raises UsageError for a source that can't be used, and when two modules have the same row.
    """
    tables: dict[str, dict[str, Any]] = {name: {} for name in TABLES}
    owner: dict[tuple[str, str], str] = {}
    names: list[str] = []
    for source in sources:
        name, module = _loaded(source)
        names.append(name)
        where = f"--rules {name}"
        for table in TABLES:
            for op, function in _rows(module, where, table).items():
                if (table, op) in owner:
                    raise UsageError(
                        f"{where}: {table} has {op!r}, and so has {owner[table, op]}; "
                        "give one of them"
                    )
                owner[table, op] = name
                tables[table][op] = _wrapped(table, function, where)
    installed = _installed()
    return Extensions(
        names=tuple(names),
        rules={**installed["RULES"], **tables["RULES"]},
        counters={**installed["COUNTERS"], **tables["COUNTERS"]},
        shapes={**installed["SHAPES"], **tables["SHAPES"]},
        replaced={op: owner["RULES", op] for op in tables["RULES"] if op in installed["RULES"]},
    )


def _loaded(source: Source) -> tuple[str, ModuleType]:
    """Name and module of a source."""
    if isinstance(source, ModuleType):
        return source.__name__, source
    text = str(source)
    is_file = text.endswith(".py")
    if is_file and not Path(text).is_file():
        raise UsageError(f"--rules {text}: there is no such file")
    # The console script has its own folder on the path, not the one the user stands in.
    folder = str(Path(text).parent.resolve() if is_file else Path.cwd())
    sys.path.insert(0, folder)
    try:
        module = _execute(Path(text)) if is_file else importlib.import_module(text)
    except Exception as error:  # whatever the user's module does when it is imported
        if isinstance(error, ModuleNotFoundError) and error.name == text.partition(".")[0]:
            raise UsageError(
                f"--rules {text}: no module of this name; give one that Python can import "
                "(PYTHONPATH) or the path of a .py file"
            ) from None
        raise UsageError(f"--rules {text}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    return Path(text).stem if is_file else text, module


def _execute(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"prunec_rules_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _rows(module: ModuleType, where: str, table: str) -> dict[str, Callable[..., Any]]:
    """One table of a module, checked; op types of the default domain have no prefix."""
    found = getattr(module, table, None)
    if found is None and table != "RULES":
        return {}
    if not isinstance(found, Mapping):
        have = "has no RULES" if found is None else f"its {table} is a {type(found).__name__}"
        raise UsageError(f"{where}: {have}; write {table} = {{'example::Roll': roll}}")
    rows = {}
    for op, function in found.items():
        if not isinstance(op, str):
            raise UsageError(f"{where}: {table} has the key {op!r}; write 'domain::OpType'")
        if not callable(function):
            raise UsageError(f"{where}: {table}[{op!r}] is not a function")
        rows[op.removeprefix("ai.onnx::").removeprefix("::")] = function
    return rows


def _wrapped(table: str, function: Callable[..., Any], where: str) -> Callable[..., Any]:
    return _guarded(function, where) if table == "RULES" else _blamed(function, where)


def _guarded(rule: Rule, where: str) -> Rule:
    """A rule whose mistakes freeze the node, with what went wrong as the reason."""

    def guarded(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
        try:
            outs = rule(site, ins, c)
        except Unsupported:
            raise
        except Exception as error:  # whatever a user's function may raise
            raise Unsupported(f"its rule ({where}) failed: {_short(error)}") from error
        if not _is_labels(outs):
            raise Unsupported(
                f"its rule ({where}) must return a list with one tuple of label arrays per "
                "output, one array per axis"
            )
        return outs

    return guarded


def _is_labels(outs: object) -> bool:
    return isinstance(outs, list | tuple) and all(
        isinstance(axes, list | tuple)
        and all(isinstance(a, np.ndarray) and a.ndim == 1 and a.dtype.kind == "i" for a in axes)
        for axes in outs
    )


def _blamed(function: Callable[..., Any], where: str) -> Callable[..., Any]:
    """A function whose mistakes are errors that name its module and the node."""

    def blamed(node: Any, *rest: Any) -> Any:
        try:
            return function(node, *rest)
        except Exception as error:  # whatever a user's function may raise
            raise UsageError(
                f"{where}: {getattr(function, '__name__', 'a function')} failed at node "
                f"{node.name}: {_short(error)}"
            ) from error

    return blamed


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
