"""How good outputs are: top-1, top-5, or what a user's function says; streamed batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.errors import DataError, UsageError
from prunec.compiler.spec import suggest
from prunec.runtime.arrays import find_function, guarded
from prunec.runtime.chunks import Labels
from prunec.runtime.inputs import Array

Outputs = Mapping[str, Array]
# A name, ``module:function``, or the function or class itself.
MetricSource = str | Callable[..., Any]


class Metric(Protocol):
    """Sees one batch after the other, then says its value; made anew for every model.

    whole: whether it reads more than the first output. Values: higher is better; None where the
    metric says nothing of this model.
    """

    @property
    def whole(self) -> bool: ...  # noqa: D102 - see above

    def update(self, outputs: Outputs, labels: Labels | None) -> None:
        """Take a batch in. outputs: by name, in graph order. Raises DataError."""

    def result(self) -> float | None:
        """The value over all batches."""


class TopK:
    """Share of samples whose class is among the k largest of the first output, (batch, classes).

    Ties go to the lower class index; a row that holds NaN is wrong. Says nothing of at most k
    classes, unless k is 1.
    """

    whole = False

    def __init__(self, k: int) -> None:
        self.k, self.hits, self.samples, self.classes = k, 0, 0, 0

    def update(self, outputs: Outputs, labels: Labels | None) -> None:
        """Count. Raises DataError where labels are missing or do not fit."""
        name, scores = next(iter(outputs.items()))
        if labels is None:
            raise DataError("accuracy needs labels, the data has none")
        scores = _flat_scores(scores, labels, name)
        self.hits += int((_ranks(scores, labels) < self.k).sum())
        self.samples, self.classes = self.samples + len(labels), scores.shape[1]

    def result(self) -> float | None:
        """In [0, 1]."""
        return self.hits / self.samples if self.k == 1 or self.classes > self.k else None


class Mean:
    """A user's function of a batch, (outputs, labels) -> (sum, count): all sums by all counts."""

    whole = True

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self.function, self.sum, self.count = name, function, 0.0, 0.0

    def update(self, outputs: Outputs, labels: Labels | None) -> None:
        """Call the function. Raises DataError for what goes wrong in it."""
        given = guarded(self.name, lambda: self.function(dict(outputs), labels))
        if not isinstance(given, tuple) or len(given) != 2:
            raise DataError(f"{self.name} must return (sum, count) of a batch, not {given!r}")
        self.sum += _number(self.name, given[0])
        self.count += _number(self.name, given[1])

    def result(self) -> float:
        """Raises DataError where nothing was counted."""
        if not self.count:
            raise DataError(f"{self.name} counted nothing: the sum of its counts is 0")
        return self.sum / self.count


class Accumulated:
    """A user's class with ``update(outputs, labels)`` and ``result()``, for what is no mean."""

    whole = True

    def __init__(self, name: str, made: type) -> None:
        self.name = name
        self.own: Any = guarded(name, made)

    def update(self, outputs: Outputs, labels: Labels | None) -> None:
        """Hand the batch on. Raises DataError for what goes wrong in it."""
        guarded(self.name, lambda: self.own.update(dict(outputs), labels))

    def result(self) -> float:
        """What the object says."""
        given = guarded(self.name, lambda: self.own.result())  # noqa: PLW0108 - `result` may be missing
        return _number(self.name, given)


METRICS: Mapping[str, Callable[[], Metric]] = {
    "top1": partial(TopK, 1),
    "top5": partial(TopK, 5),
}
DEFAULT_METRICS = ("top1", "top5")


def metric_name(source: MetricSource) -> str:
    """What reports call it: as it was written, or the name of the function.

    >>> metric_name("top1")
    'top1'
    """
    return source if isinstance(source, str) else str(getattr(source, "__name__", source))


def check_metrics(sources: Sequence[MetricSource]) -> None:
    """Raise UsageError for an unknown name or one that is given twice, before any work is done."""
    names = [metric_name(source) for source in sources]
    for position, source in enumerate(sources):
        if names[position] in names[:position]:
            raise UsageError(f"metric {names[position]!r} is given twice")
        if isinstance(source, str) and source not in METRICS and ":" not in source:
            known = f"{', '.join(METRICS)} or module:function"
            hint = suggest(source, METRICS)
            raise UsageError(f"unknown metric {source!r}{hint}; a metric is {known}")


def make_metric(source: MetricSource) -> Metric:
    """A fresh metric. Raises UsageError for unknown names, DataError for code that fails."""
    check_metrics((source,))
    name = metric_name(source)
    if isinstance(source, str) and source in METRICS:
        return METRICS[source]()
    found = find_function(source) if isinstance(source, str) else source
    return Accumulated(name, found) if isinstance(found, type) else Mean(name, found)


def _number(name: str, value: object) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise DataError(f"{name} must give numbers, not {value!r}")
    return float(array.reshape(()))


def _flat_scores(scores: Array, labels: Labels, name: str) -> Array:
    rows = scores.reshape(len(scores), -1) if scores.ndim and scores.size else scores
    if rows.ndim != 2 or len(rows) != len(labels) or rows.shape[1] != max(scores.shape[1:]):
        raise DataError(
            f"output {name!r} is {tuple(scores.shape)} for {len(labels)} samples; "
            "accuracy needs (batch, classes)"
        )
    if labels.min() < 0 or labels.max() >= rows.shape[1]:
        raise DataError(
            f"labels lie in [{labels.min()}, {labels.max()}], "
            f"output {name!r} has {rows.shape[1]} classes"
        )
    return rows


def _ranks(scores: Array, labels: Labels) -> NDArray[np.int64]:
    """How many classes come before the right one; all of them where the scores are not numbers."""
    own = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    before = (scores > own) | ((scores == own) & earlier)
    rank: NDArray[np.int64] = before.sum(axis=1, dtype=np.int64)
    return np.where(np.isnan(scores).any(axis=1), scores.shape[1] + 5, rank)
