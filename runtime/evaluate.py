"""One model on one set of data, by any metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from prunec.runtime.accuracy import Accuracy, accuracy
from prunec.runtime.data import DataSpec, load_data
from prunec.runtime.metrics import MetricSource, check_metrics
from prunec.runtime.session import make_session


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came out, and where it ran. fallback: why not where it was asked for, or empty."""

    accuracy: Accuracy
    provider: str
    fallback: str


def evaluate(
    model: str | Path | bytes | ir.Model,
    data: DataSpec,
    metrics: Sequence[MetricSource] = (),
    *,
    provider: str = "cpu",
    threads: int = 1,
    batch: int | None = None,
) -> Evaluation:
    """Run a model over data in the forms of `DataSpec`; metrics: by default top-1 and top-5.

    batch: samples at once, for a symbolic first dimension. Raises ModelError, DataError,
    UsageError.
    """
    check_metrics(metrics)
    session = make_session(model, provider=provider, threads=threads)
    spec = data if batch is None else replace(data, batch=batch)
    found = accuracy(session, load_data(spec, session.inputs), metrics)
    return Evaluation(found, session.provider, session.fallback)
