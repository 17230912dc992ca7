"""How metrics read on a terminal: percent for shares of samples, plain numbers for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

LABELS: Mapping[str, str] = {"top1": "top-1", "top5": "top-5"}


def metric_label(name: str) -> str:
    """The heading of a column or row.

    >>> metric_label("top1"), metric_label("work/judge.py:iou")
    ('top-1', 'judge.py:iou')
    """
    return LABELS.get(name, PurePath(name).name)


def metric_title(name: str) -> str:
    """What a figure or a sentence calls it.

    >>> metric_title("top1")
    'top-1 accuracy'
    """
    return f"{LABELS[name]} accuracy" if name in LABELS else metric_label(name)


def metric_value(name: str, value: float | None) -> str:
    """A value, or a dash.

    >>> metric_value("top1", 0.885), metric_value("judge.py:iou", 0.885)
    ('88.50%', '0.885')
    """
    if value is None:
        return "-"
    return f"{value:.2%}" if name in LABELS else f"{value:.5g}"


def metric_change(name: str, before: float | None, after: float | None) -> str:
    """What was gained; percentage points for shares.

    >>> metric_change("top1", 0.885, 0.88)
    '-0.50 pp'
    """
    if before is None or after is None:
        return "-"
    return f"{100 * (after - before):+.2f} pp" if name in LABELS else f"{after - before:+.5g}"
