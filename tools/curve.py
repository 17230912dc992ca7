"""The loss of a training run as a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from prunec.compiler.errors import MissingDependencyError
from prunec.tools.plot import FRONT, KNEE, LINE, METADATA, STEADY

if TYPE_CHECKING:
    from prunec.runtime.training.history import History


def require() -> None:
    """Raise MissingDependencyError without matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "a plot needs matplotlib: pip install 'prunec[sweep]'"
        ) from error


def draw(history: History, path: Path) -> None:
    """Write a PNG: training loss over steps, held-out loss and accuracy after each epoch."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STEADY):
        figure = Figure(figsize=(6.4, 2.8), layout="constrained")
        axis = figure.subplots()
        axis.plot(*zip(*history.curve, strict=True), color=LINE, linewidth=1.0, label="training")
        judged = [(e.step, e.score) for e in history.epochs if e.score is not None]
        if judged:
            losses = [score.loss for _, score in judged]
            axis.plot([s for s, _ in judged], losses, "o-", color=FRONT, label="held out")
        axis.set_xlabel("optimizer step")
        axis.set_ylabel("loss")
        axis.grid(linewidth=0.3)
        known = [(step, 100 * score.top1) for step, score in judged if score.top1 is not None]
        if known:
            right = axis.twinx()
            right.plot(*zip(*known, strict=True), "s:", color=KNEE, label="top-1")
            right.set_ylabel("held-out top-1 [%]", color=KNEE)
        axis.legend(loc="best", frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=144, metadata=METADATA["png"])
    path.write_bytes(buffer.getvalue())
