"""What a training run went through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Score:
    """Of held-out samples: the loss that is trained, and the share of right answers if known."""

    loss: float
    top1: float | None
    samples: int

    def beats(self, other: Score | None) -> bool:
        """Higher accuracy, or where that is equal or unknown a lower loss; never a NaN."""
        if other is None or self.loss != self.loss:
            return self.loss == self.loss
        own = (-(self.top1 or 0.0), self.loss)
        return own < (-(other.top1 or 0.0), other.loss) or other.loss != other.loss


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass: mean of each term of the loss over its steps, the last learning rate.

    number 0 is the model as it came: no terms, only a score.
    """

    number: int
    step: int
    rate: float
    terms: Mapping[str, float]
    score: Score | None
    seconds: float
    samples: int

    @property
    def loss(self) -> float:
        """The sum of the terms."""
        return sum(self.terms.values())


@dataclass(slots=True)
class History:
    """Epochs in order; curve: (step, mean loss since the last entry). best: the epoch whose
    weights the model has at the end; None where no samples were held out. resumed: the step that a
    run went on from.
    """

    epochs: list[Epoch] = field(default_factory=list)
    curve: list[tuple[int, float]] = field(default_factory=list)
    best: int | None = None
    resumed: int = 0
    steps: int = 0

    @property
    def score(self) -> Score | None:
        """Of the best epoch."""
        return next((e.score for e in self.epochs if e.number == self.best), None)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json`` and the checkpoint."""
        return {
            "steps": self.steps,
            "best_epoch": self.best,
            "resumed_at_step": self.resumed,
            "epochs": [{**asdict(e), "loss": e.loss if e.terms else None} for e in self.epochs],
            "curve": [list(point) for point in self.curve],
        }


def history_of(document: Mapping[str, Any]) -> History:
    """The history that `History.to_dict` gave."""
    return History(
        epochs=[_epoch(row) for row in document["epochs"]],
        curve=[(int(step), float(loss)) for step, loss in document["curve"]],
        best=document["best_epoch"],
        resumed=int(document["resumed_at_step"]),
        steps=int(document["steps"]),
    )


def _epoch(row: Mapping[str, Any]) -> Epoch:
    rest = {key: value for key, value in row.items() if key not in ("loss", "score")}
    score = row["score"]
    return Epoch(**rest, score=None if score is None else Score(**score))


def mean_terms(sums: Mapping[str, float], count: int) -> dict[str, float]:
    """Sums over steps as means."""
    return {name: total / max(count, 1) for name, total in sums.items()}


def line(epoch: Epoch, of: int | None = None) -> str:
    """An epoch in one line, for the terminal."""
    parts = [f"epoch {epoch.number}" + (f"/{of}" if of else "")]
    if epoch.terms:
        terms = ", ".join(f"{name} {value:.4g}" for name, value in epoch.terms.items())
        parts.append(f"loss {epoch.loss:.4g}" + (f" ({terms})" if len(epoch.terms) > 1 else ""))
    if epoch.score is not None:
        parts.append(f"held out: loss {epoch.score.loss:.4g}")
        if epoch.score.top1 is not None:
            parts[-1] += f", top-1 {epoch.score.top1:.2%}"
    if epoch.seconds > 0 and epoch.samples:
        parts.append(f"{epoch.samples / epoch.seconds:.0f} samples/s")
    return "  ".join(parts)
