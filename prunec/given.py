"""What users may give, in the form that the rest works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunec.compiler.criterion import Criterion
from prunec.compiler.errors import UsageError
from prunec.compiler.extensions import Source as RulesSource
from prunec.compiler.extensions import extended
from prunec.compiler.spec import parse
from prunec.passes.criteria import CRITERIA
from prunec.passes.grouping import Grouping
from prunec.passes.regroup.asked import parse_groups
from prunec.runtime.compile import (
    Settings,
)
from prunec.runtime.data import DataSpec
from prunec.runtime.subject import Source, Subject, open_model

if TYPE_CHECKING:
    pass

Shapes = Mapping[str, Sequence[int]]
Rules = RulesSource | Sequence[RulesSource]
Metrics = str | Callable[..., Any] | Sequence[str | Callable[..., Any]]


def metrics_of(metric: Metrics) -> tuple[str | Callable[..., Any], ...]:
    """One metric or several, by name, "module:function" or as they are. Raises UsageError."""
    if isinstance(metric, str):
        from prunec.tools.settings import metrics_of as named

        return named((metric,))
    return tuple(metric) if isinstance(metric, Sequence) else (metric,)


def opened(model: Source, settings: Settings) -> Subject:
    """The model under the compiler, as the settings say. Raises ModelError, UsageError."""
    return open_model(
        model,
        settings.shapes,
        strict=settings.strict,
        freedom=settings.freedom,
        rules=settings.rules,
    )


def sources_of(rules: Rules) -> tuple[RulesSource, ...]:
    """One module of rules, or several."""
    return (rules,) if isinstance(rules, RulesSource) else tuple(rules)


def budget_of(budget: str | Sequence[str] | Mapping[str, float | str]) -> str | Sequence[str]:
    """A budget as text: ``{"flops": 0.5}`` is ``["flops=0.5"]``."""
    if isinstance(budget, Mapping):
        return [f"{resource}={amount}" for resource, amount in budget.items()]
    if not isinstance(budget, str | Sequence):
        raise UsageError(f"a budget is text such as 'flops=0.46' or a dict, not {budget!r}")
    return budget


def grouping_of(given: Grouping | int | str | Mapping[str, int] | None) -> Grouping:
    """How convolutions are grouped, from a number, a word, a file or numbers by name."""
    if isinstance(given, Grouping):
        return given
    return Grouping(conv=parse_groups(given) if isinstance(given, str) else given)


def criterion_of(text: str) -> Criterion:
    """A criterion by its specification, third parties' rows included. Raises UsageError."""
    rows = extended(CRITERIA, "prunec.criteria")
    made: Criterion = parse(text, rows, "criterion")
    return made


def data_of(data: DataSpec | str | None) -> DataSpec | None:
    """Data by path or "module:function", or as it is. Raises UsageError."""
    if isinstance(data, str | Path):
        return DataSpec(str(data))
    if data is not None and not isinstance(data, DataSpec):
        raise UsageError(
            f"data is a path, 'module:function' or a prunec.DataSpec, not a {type(data).__name__}"
        )
    return data


def shapes_of(shapes: Shapes | None) -> dict[str, tuple[int, ...]]:
    """Sizes of inputs as tuples of int."""
    return {name: tuple(int(n) for n in shape) for name, shape in (shapes or {}).items()}
