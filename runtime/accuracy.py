"""Top-1 and top-5 accuracy of a classifier on labelled data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.errors import DataError
from prunec.runtime.chunks import Labels
from prunec.runtime.data import Dataset
from prunec.runtime.inputs import Array
from prunec.runtime.session import Session, make_session


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares of samples, in [0, 1]. top5 is None below six classes."""

    top1: float
    top5: float | None
    samples: int

    def to_dict(self) -> dict[str, float | int | None]:
        """For ``--json``."""
        return {"top1": self.top1, "top5": self.top5, "samples": self.samples}


def accuracy(
    model: str | Path | bytes | ir.Model | Session,
    data: Dataset,
    *,
    provider: str = "cpu",
    threads: int = 1,
) -> Accuracy:
    """Compare the largest entries of the first output, (batch, classes), with the labels.

    Ties go to the lower class index; a row that holds NaN is wrong. Raises DataError where the
    data has no labels or they do not fit the output.
    """
    session = model if isinstance(model, Session) else None
    if session is None:
        assert not isinstance(model, Session)
        session = make_session(model, provider=provider, threads=threads)
    hits1 = hits5 = samples = classes = 0
    for feeds, labels in data.batches():
        if labels is None:
            raise DataError(f"{data.spec.path}: accuracy needs labels, the data has none")
        (scores,) = session.run(feeds, session.outputs[:1])
        scores = _flat_scores(scores, labels, session.outputs[0])
        classes = scores.shape[1]
        rank = _ranks(scores, labels)
        hits1 += int((rank < 1).sum())
        hits5 += int((rank < 5).sum())
        samples += len(labels)
    return Accuracy(hits1 / samples, hits5 / samples if classes > 5 else None, samples)


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
