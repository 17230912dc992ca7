"""A sweep as a picture: loss, accuracy and latency against cost."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunec.compiler.errors import MissingDependencyError
from prunec.runtime.stage import staged
from prunec.runtime.sweep.points import TIME, Point, Sweep
from prunec.tools.metric_words import metric_title

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("png", "svg")
WIDTH, HEIGHT = 6.4, 2.8  # inches; height of one panel
LINE, FRONT, KNEE, DENSE = "#7f8c99", "#1f5fa8", "#c43c1d", "#555555"
# Nothing that differs from run to run: no dates, no random ids.
STEADY: dict[Any, Any] = {"svg.hashsalt": "prunec", "font.family": "DejaVu Sans", "font.size": 9.0}
METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}


def draw(found: Sweep, folder: Path) -> tuple[Path, ...]:
    """Write sweep.png and sweep.svg; the same sweep gives the same bytes.

    Raises MissingDependencyError without matplotlib, OutputError.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "a plot needs matplotlib: pip install 'prunec[sweep]'"
        ) from error
    paths = tuple(folder / f"sweep.{kind}" for kind in KINDS)
    with matplotlib.rc_context(STEADY), staged(paths) as stage:
        panels = _panels(found)
        figure = Figure(figsize=(WIDTH, HEIGHT * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axis, (title, value, dense) in zip(axes, panels, strict=True):
            _panel(axis, found, value)
            axis.set_ylabel(title)
            if dense is not None:
                axis.axhline(dense, color=DENSE, linewidth=0.8, linestyle=":", label="dense")
        axes[-1].set_xlabel(_cost_label(found))
        axes[0].set_title(found.model)
        axes[0].legend(loc="best", frameon=False)
        for kind, path in zip(KINDS, paths, strict=True):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=144, metadata=METADATA[kind])
            stage[path].write_bytes(buffer.getvalue())
    return paths


def _panels(found: Sweep) -> list[tuple[str, Callable[[Point], float | None], float | None]]:
    """Title, value of a point, and value of the dense model, for what is known."""
    panels: list[tuple[str, Callable[[Point], float | None], float | None]] = [
        ("predicted loss", lambda p: p.predicted_loss, None)
    ]
    dense = found.dense_accuracy
    if dense is not None and found.metric is not None:
        panels.append(
            (
                metric_title(found.metric),
                lambda p: None if p.accuracy is None else p.accuracy.first[1],
                dense.first[1],
            )
        )
    timed = [p.latency for p in found.points if p.latency is not None]
    if timed and found.against != TIME:
        panels.append(
            (
                "latency [ms]",
                lambda p: None if p.latency is None else 1e3 * p.latency.pruned_s,
                1e3 * sum(t.dense_s for t in timed) / len(timed),
            )
        )
    return panels


def _panel(axis: Any, found: Sweep, value: Callable[[Point], float | None]) -> None:
    shown = [
        (_cost(found, point), y, k)
        for k, point in enumerate(found.points)
        if point.cost(found.against) is not None and (y := value(point)) is not None
    ]
    shown.sort()
    axis.plot([x for x, _, _ in shown], [y for _, y, _ in shown], color=LINE, linewidth=1.0)
    for name, own, style in (
        ("dominated", lambda k: k not in found.front, {"color": LINE, "s": 14}),
        ("Pareto point", lambda k: k in found.front, {"color": FRONT, "s": 22}),
        ("knee", lambda k: k == found.knee,
         {"facecolors": "none", "edgecolors": KNEE, "s": 110, "linewidths": 1.6}),
    ):  # fmt: skip
        part = [(x, y) for x, y, k in shown if own(k)]
        if part:
            axis.scatter(*zip(*part, strict=True), label=name, zorder=3, **style)
    axis.grid(linewidth=0.3)


def _cost(found: Sweep, point: Point) -> float:
    cost = point.cost(found.against)
    assert cost is not None
    return 1e3 * cost if found.against == TIME else cost / max(found.dense[found.against], 1)


def _cost_label(found: Sweep) -> str:
    if found.against == TIME:
        return "latency [ms]"
    return f"{found.against}, share of the dense model"
