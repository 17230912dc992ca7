"""Rows of what was measured of two models, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prunec.tools.metric_words import metric_change, metric_label, metric_value
from prunec.tools.render import quantity

if TYPE_CHECKING:
    from prunec.runtime.accuracy import Accuracy


def size_and_accuracy(
    sizes: tuple[int, int] | None, accuracy: tuple[Accuracy, Accuracy] | None
) -> Iterator[tuple[str, str, str, str]]:
    """Rows of the bytes on disk and of each metric, before and after; none where not measured."""
    if sizes is not None:
        a, b = sizes
        yield "file", quantity("bytes", a), quantity("bytes", b), f"{b / a:.4f} x" if a else "-"
    if accuracy is not None:
        before, after = accuracy
        for (name, x), (_, y) in zip(before.values, after.values, strict=True):
            if x is not None and y is not None:
                label = f"{metric_label(name)} of {before.samples}"
                yield label, metric_value(name, x), metric_value(name, y), metric_change(name, x, y)
