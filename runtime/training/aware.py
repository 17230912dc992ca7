"""What quantisation-aware training is told: the recipe, how scales come about, when it starts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from prunec.compiler.errors import UsageError
from prunec.passes.quantize.recipe import BY_BITS, Recipe, Rule
from prunec.runtime.training.scales import Joint, Learned, Scales, Start

WIDE = 8  # bits of the ends, and of sums, where they are not the recipe's
TIED = ("power-of-two", "clustered")  # quantisers whose scales are not free


@dataclass(frozen=True, slots=True)
class Aware:
    """How a model is trained towards its quantised form.

    ends: bits of the first and the last layers, weights and what they read; None: the recipe's.
    sums: bits of values that no layer with a weight reads (what additions and pools read); None:
    the recipe's. samples: for calibration, from the training data.
    """

    recipe: Recipe
    scales: Scales = field(default_factory=Learned)
    start: Start = field(default_factory=Joint)
    ends: int | None = WIDE
    sums: int | None = WIDE
    samples: int = 512

    def __post_init__(self) -> None:
        """Raise UsageError for what a recipe can't be trained with."""
        if self.samples < 1:
            raise UsageError(f"calibration needs at least 1 sample, not {self.samples}")
        if self.recipe.rounding not in (BY_BITS, "nearest") or self.recipe.correction:
            raise UsageError(
                "training rounds weights to the nearest and learns biases: rounding and correction "
                "are for quantisation without training; leave them out of the recipe"
            )
        if isinstance(self.scales, Learned):
            for text in (self.recipe.weights, self.recipe.activations):
                if text.partition("{")[0] in TIED:
                    raise UsageError(
                        f"the scales of quantiser {text!r} are tied to each other or to powers of "
                        "two and can't be learned; give --quantize-scales running"
                    )

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells this run from others."""
        recipe = self.recipe
        told = (str(recipe), recipe.exclude, recipe.rules)
        return (*told, self.scales, self.start, self.ends, self.sums, self.samples)

    def with_ends(self, names: Iterable[str]) -> Recipe:
        """The recipe with a rule for the first and last layers, behind the user's own rules."""
        if self.ends is None:
            return self.recipe
        weights, activations = max(self.ends, self.recipe.bits), self.recipe.activation_bits
        if activations is not None:
            activations = max(self.ends, activations)
        rules = tuple(Rule(f"^{re.escape(n)}$", weights, activations) for n in sorted(names))
        return replace(self.recipe, rules=(*self.recipe.rules, *rules))
