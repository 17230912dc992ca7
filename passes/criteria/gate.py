"""Gate: trained gates that close until the budget is met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray
from prunec.compiler.spec import suggest
from prunec.compiler.stats import Stats

EVIDENCE = ("fisher", "second-order", "straight-through")
LABELS = ("auto", "none")


@dataclass(frozen=True, slots=True)
class Gate:
    """How likely a group's gate is open after training: one logistic hard gate per channel group.

    Gates are drawn once per channel group, for each sample, and never in evaluation. steps, batch,
    labels (auto: the data's, beside the dense model's outputs; none: the outputs alone), seed: of
    the training; train_weights with learning_rate: the network's weights learn along, for the
    scores' sake. init: the probability of being open at first, or a JSON file of them by hyperedge
    name; random_init: logits vary by 10 %. temperature, hard: of what is drawn. threshold: a gate
    whose probability falls below closes for good. adaptive: a channel's cost is that at the counts
    still open. ramp: share of the steps after which the budget is met; warmup: share of them before
    the first gate closes. sharpness: logits that a gate gains when it brings e times as much for
    its cost; memory: steps over which that is averaged. evidence: what the loss gains by an open
    gate: fisher (half the mean square of its gradient over samples), second-order (with the mean
    gradient too), or straight-through, the published gradient.
    weight: above 0, the published loss instead, this times the cost of open gates, which knows no
    budget: resource, static_total_cost (0: the dense cost) and gradient_multiplier are its other
    parameters. Source: Passov, "Gator", ICANN 2021, section 3.
    """

    name: ClassVar[str] = "gate"
    needs: ClassVar[str] = "gates"
    steps: int = 300
    batch: int = 64
    labels: str = "auto"
    seed: int = 0
    train_weights: bool = False
    learning_rate: float = 0.02
    init: float | str = 0.99
    random_init: bool = False
    temperature: float = 1.0
    hard: bool = True
    threshold: float = 0.5
    adaptive: bool = True
    ramp: float = 0.8
    warmup: float = 0.1
    sharpness: float = 4.0
    memory: int = 30
    evidence: str = "fisher"
    weight: float = 0.0
    resource: str = "flops"
    static_total_cost: float = 0.0
    gradient_multiplier: float = 0.2

    def __post_init__(self) -> None:
        """Raise UsageError for options that mean nothing."""
        above = (
            "steps",
            "batch",
            "learning_rate",
            "temperature",
            "memory",
            "sharpness",
            "gradient_multiplier",
        )
        for key in above:
            if not getattr(self, key) > 0:
                raise self._wrong(key, "must be above 0")
        for key in ("weight", "static_total_cost", "seed"):
            if not getattr(self, key) >= 0:
                raise self._wrong(key, "must not be negative")
        for key in ("threshold", "init"):
            if isinstance(getattr(self, key), float | int) and not 0 < getattr(self, key) < 1:
                raise self._wrong(key, "must lie between 0 and 1")
        if not 0 <= self.warmup < 1:
            raise self._wrong("warmup", "must be at least 0 and below 1")
        if not 0 < self.ramp <= 1:
            raise self._wrong("ramp", "must be above 0 and at most 1")
        for key, known in (("evidence", EVIDENCE), ("labels", LABELS)):
            if getattr(self, key) not in known:
                raise self._wrong(key, f"is unknown{suggest(getattr(self, key), known)}")
        if not self.hard and self.evidence != "straight-through" and not self.weight:
            raise UsageError("criterion 'gate': hard=false needs evidence=straight-through")

    def _wrong(self, key: str, what: str) -> UsageError:
        return UsageError(f"criterion 'gate': {key}={getattr(self, key)} {what}")

    def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> FloatArray:
        """(number_of_groups,) in [0, 1]: probabilities; of closed gates next to nothing."""
        if stats is None or stats.openness is None:
            raise UsageError("criterion 'gate' needs data; give it with --data")
        size = stats.openness.shape
        assert size == (graph.number_of_groups,), (size, graph.number_of_groups)
        return stats.openness
