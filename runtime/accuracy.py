"""Metrics of a model over a set of data: the accuracy of every report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from prunec.compiler.errors import DataError, UsageError
from prunec.runtime.data import Dataset, DataSpec, load_data
from prunec.runtime.inputs import InputSpec
from prunec.runtime.metrics import (
    DEFAULT_METRICS,
    MetricSource,
    check_metrics,
    make_metric,
    metric_name,
)
from prunec.runtime.session import Session, make_session


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Values by metric, in the order asked for; higher is better, None says nothing."""

    values: tuple[tuple[str, float | None], ...]
    samples: int

    @property
    def first(self) -> tuple[str, float | None]:
        """The metric that decides where one number is needed, and its value."""
        return self.values[0]

    @property
    def top1(self) -> float | None:
        """Share of samples, in [0, 1]; None where it was not asked for."""
        return dict(self.values).get("top1")

    @property
    def top5(self) -> float | None:
        """Share of samples, in [0, 1]; None below six classes or where it was not asked for."""
        return dict(self.values).get("top5")

    def to_dict(self) -> dict[str, float | int | None]:
        """For ``--json``."""
        return {**dict(self.values), "samples": self.samples}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Accuracy:
        """The inverse of `to_dict`. Raises KeyError."""
        values = {name: value for name, value in record.items() if name != "samples"}
        return cls(tuple(values.items()), record["samples"])


def accuracy(
    model: str | Path | bytes | ir.Model | Session,
    data: Dataset,
    metrics: Sequence[MetricSource] = (),
    *,
    provider: str = "cpu",
    threads: int = 1,
) -> Accuracy:
    """Run the model over the data, one batch in memory at a time; metrics: by default top-1 and 5.

    Raises DataError where the data has no labels or they do not fit, or a user's metric fails;
    UsageError for an unknown metric.
    """
    sources = tuple(metrics) or DEFAULT_METRICS
    check_metrics(sources)
    made = [make_metric(source) for source in sources]
    session = model if isinstance(model, Session) else None
    if session is None:
        assert not isinstance(model, Session)
        session = make_session(model, provider=provider, threads=threads)
    wanted = session.outputs if any(m.whole for m in made) else session.outputs[:1]
    samples = 0
    for feeds, labels in data.batches():
        outputs = dict(zip(wanted, session.run(feeds, wanted), strict=True))
        for metric in made:
            try:
                metric.update(outputs, labels)
            except DataError as error:
                raise DataError(f"{data.spec.path}: {error}") from error
        samples += len(next(iter(feeds.values())))
    values = [m.result() for m in made]
    names = [metric_name(source) for source in sources]
    return Accuracy(tuple(zip(names, values, strict=True)), samples)


def report_data(
    data: DataSpec | None,
    eval_data: DataSpec | None,
    metrics: Sequence[MetricSource],
    inputs: Sequence[InputSpec],
) -> Dataset | None:
    """What a report's accuracy is measured on: `eval_data`, else `data` where that can be judged.

    None where nobody asked: there is no data, or it has no labels and no metric is named. Raises
    DataError, and UsageError where metrics are named without data.
    """
    check_metrics(metrics)
    spec = data if eval_data is None else eval_data
    if spec is None:
        if metrics:
            raise UsageError("--metric needs data; give it with --data or --eval-data")
        return None
    found = load_data(spec, inputs)
    return found if eval_data is not None or metrics or _labelled(found) else None


def _labelled(data: Dataset) -> bool:
    """Whether the first batch has labels; then all must."""
    return next(data.batches())[1] is not None
