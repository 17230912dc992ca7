"""Fisher: what the loss gains, to second order, when a channel group leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray
from prunec.compiler.spec import suggest
from prunec.compiler.stats import Gradients, Stats

LABELS = ("auto", "data", "self")
TARGETS = ("argmax", "sample", "sketch")


@dataclass(frozen=True, slots=True)
class Fisher:
    """Mean over samples of (d loss / d gate)^2 / 2, the loss that a group's removal adds.

    Scores compare across hyperedges (nats of cross entropy). labels: data, self (the dense model's
    own predictions) or auto (the data's where it has them). targets, for self: argmax, the
    likeliest class; sample, a class drawn from the predicted probabilities; sketch, all classes
    at once with random signs: the Fisher information itself, in expectation. Source: Theis et al.
    2018, "Faster gaze prediction with dense networks and Fisher pruning", equation 4.
    """

    name: ClassVar[str] = "fisher"
    needs: ClassVar[str] = "gradients"
    comparable: ClassVar[bool] = True
    samples: int = 512
    batch: int = 64
    labels: str = "auto"
    targets: str = "sketch"
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self.name, self.samples, self.batch, self.labels, self.targets, self.seed)

    def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> FloatArray:
        """(number_of_groups,), >= 0, in units of the loss."""
        return gradients_of(self.name, graph, stats).mean_square / 2


def check_options(
    name: str, samples: int, batch: int, labels: str, targets: str, seed: int
) -> None:
    """Raise UsageError for options of a gradient criterion that mean nothing."""
    for key, number, least in (("samples", samples, 1), ("batch", batch, 1), ("seed", seed, 0)):
        if number < least:
            raise UsageError(f"criterion {name!r}: {key} must be at least {least}, not {number}")
    for key, word, known in (("labels", labels, LABELS), ("targets", targets, TARGETS)):
        if word not in known:
            raise UsageError(f"criterion {name!r}: unknown {key} {word!r}{suggest(word, known)}")


def gradients_of(name: str, graph: Hypergraph, stats: Stats | None) -> Gradients:
    """The evidence of these criteria. Raises UsageError where there is none."""
    if stats is None or stats.gradients is None:
        raise UsageError(f"criterion {name!r} needs data; give it with --data")
    size = stats.gradients.mean_square.shape
    assert size == (graph.number_of_groups,), (size, graph.number_of_groups)
    return stats.gradients
