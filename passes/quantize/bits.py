"""Bits per weight as a choice: dials for the selection problem, in the currency of its scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from prunec.compiler.dial import Dial
from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.quantisation import FloatArray
from prunec.passes.quantize.errors import FLOAT_BITS, Sensitivity
from prunec.passes.quantize.recipe import (
    Recipe,
    Rule,
    parse_recipe,
    read_recipe_file,
    split_outside_braces,
    told_by,
)

NAME = "auto"
FILES = frozenset({".json", ".toml"})
MEASURES = ("auto", "outputs", "layers")
CHOICES = (4, 8)
ALLOWED = (2, 3, 4, 5, 6, 7, 8, FLOAT_BITS)


@dataclass(frozen=True, slots=True)
class AutoBits:
    """Bits of each weight are chosen under the budget, together with channels and groups.

    choices: ascending; 32 lets a weight stay float. measure: what a weight's bits are worth.
    outputs: what the outputs of the model lose, in nats, when it alone is quantised; layers: the
    relative error of its own layer; auto: outputs where the criterion's scores are losses too, else
    layers. recipe: everything else, bits of activations included; its rules fix bits of weights.
    """

    choices: tuple[int, ...] = CHOICES
    measure: str = "auto"
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        """Raise UsageError for choices that are none."""
        if len(set(self.choices)) < 2 or not set(self.choices) <= set(ALLOWED):
            text = ", ".join(map(str, ALLOWED))
            raise UsageError(
                f"recipe 'auto': choices must be two or more of {text}, joined by '+' (4+8), "
                f"not {'+'.join(map(str, self.choices))!r}"
            )
        if self.measure not in MEASURES:
            raise UsageError(
                f"recipe 'auto': measure must be one of {', '.join(MEASURES)}, not {self.measure!r}"
            )
        object.__setattr__(self, "choices", tuple(sorted(set(self.choices))))

    def of(self, names: Sequence[str]) -> tuple[int, ...]:
        """The choices of a weight that has these names: a rule that says its bits leaves one."""
        rule = self.recipe.rule_for(names)
        return self.choices if rule is None or rule.weights is None else (rule.weights,)

    def __str__(self) -> str:
        """The text that `parse_auto` reads; without patterns, which have their own options."""
        _, _, rest = str(self.recipe).partition("{")
        shown = [f"choices={'+'.join(map(str, self.choices))}"] if self.choices != CHOICES else []
        shown += [f"measure={self.measure}"] if self.measure != "auto" else []
        bits = self.recipe.activation_bits
        shown += [f"activation_bits={bits or 0}"] if bits != Recipe().activation_bits else []
        shown += [rest[:-1]] if rest else []
        return NAME + (f"{{{','.join(shown)}}}" if shown else "")


def is_auto(text: str) -> bool:
    """Whether a recipe leaves the bits of weights open.

    >>> is_auto("auto{choices=4+8+32}"), is_auto("w8a8")
    (True, False)
    """
    if Path(text).suffix in FILES:
        return is_auto(str(read_recipe_file(Path(text)).get("recipe", "")))
    return text.strip().partition("{")[0].strip() == NAME


def parse_auto(text: str) -> AutoBits:
    """``auto{choices=4+8+32,measure=layers,activation_bits=16,rounding=gptq}``. UsageError.

    activation_bits: 0 leaves activations float. All other options are those of recipes. Or a file
    of a recipe whose name is such a text; its rules fix the bits of what they match.

    >>> parse_auto("auto{choices=4+8,first=false}").recipe.first
    False
    """
    if Path(text).suffix in FILES:
        body = read_recipe_file(Path(text))
        auto = parse_auto(str(body["recipe"]))
        return replace(auto, recipe=told_by(Path(text), body, auto.recipe))
    _, _, rest = text.strip().partition("{")
    if rest and not rest.rstrip().endswith("}"):
        raise UsageError(f"recipe {text!r}: the option list must end with '}}'")
    own: dict[str, str] = {}
    others = []
    for item in split_outside_braces(rest.rstrip()[:-1]):
        key, _, value = (part.strip() for part in item.partition("="))
        if key in ("choices", "measure", "activation_bits"):
            own[key] = value
        else:
            others.append(item)
    activations = _number(own.get("activation_bits", "8"), "activation_bits")
    base = f"w8a{activations}" if activations else "weights=int8"
    recipe = parse_recipe(base + (f"{{{','.join(others)}}}" if others else ""))
    choices = tuple(_number(n, "choices") for n in own.get("choices", "4+8").split("+"))
    return AutoBits(choices, own.get("measure", "auto"), recipe)


def _number(text: str, key: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"recipe 'auto': {key} must be whole numbers, not {text!r}") from None


def settled(auto: AutoBits, bits: Mapping[str, int]) -> Recipe:
    """The recipe of a plan: a rule per weight, before those that the recipe has."""
    own = tuple(
        Rule(f"^{re.escape(name)}$", skip=True)
        if b >= FLOAT_BITS
        else Rule(f"^{re.escape(name)}$", weights=b)
        for name, b in bits.items()
    )
    return replace(auto.recipe, rules=(*own, *auto.recipe.rules))


def bit_dials(
    graph: Hypergraph,
    found: Sequence[Sensitivity],
    scores: FloatArray,
    *,
    losses: bool,
) -> tuple[Dial, ...]:
    """One dial per weight with a choice; what its count scales are its bytes.

    losses: worth what the outputs don't lose, in nats, over the sum of all scores, which are
    losses as well (worth `sum` takes the same share). Else worth its share of all bytes times the
    share of its layer's output that is kept, ``1 - error``, as hyperedges are worth their share of
    the costs times the kept share of their scores (worth `share`).
    """
    counted = {w.value: w for w in graph.weights if w.counted}
    nbytes = {name: np.prod(w.shape, dtype=float) * w.itemsize for name, w in counted.items()}
    whole = float(scores.sum()) if losses else sum(nbytes.values())
    dials = []
    for x in found:
        if losses:
            worth = (x.losses()[0] - x.losses()) / whole if whole > 0 else 0 * x.loss
        else:
            worth = (nbytes.get(x.weight, 0.0) / whole) * np.maximum(1 - x.errors(), 0.0)
        dials.append(
            Dial(
                name=f"{x.weight}:bits",
                kind="bits",
                weight=x.weight,
                choices=x.bits,
                counts=x.bits,
                whole=FLOAT_BITS,
                values=tuple(np.maximum.accumulate(worth).tolist()),
            )
        )
    return tuple(dials)
