"""Recipes: how many bits weights and activations get, and what chooses their integers."""

from __future__ import annotations

import json
import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from prunec.compiler.errors import UsageError
from prunec.compiler.quantisation import BITS, Quantiser, Range, Rounding
from prunec.compiler.spec import parse, suggest
from prunec.passes.quantize.quantisers import QUANTISERS
from prunec.passes.quantize.ranges import RANGES
from prunec.passes.quantize.rounding import ROUNDINGS

WEIGHT_BITS = range(2, 9)
ACTIVATION_BITS = (*range(2, 9), 16)
HYPEREDGE = "hyperedge:"  # before a pattern, or a name, of hyperedges
NAMED = re.compile(r"w(?P<weights>\d+)a(?P<activations>\d+)")
ONLY = re.compile(r"weights=int(?P<weights>\d+)")
BY_BITS = "auto"  # of `ranges` and `rounding`: what measured best at these bits
WIDE = 8  # bits from which on the simplest loses next to nothing


@dataclass(frozen=True, slots=True)
class Rule:
    """What differs for the nodes and weights that `pattern` is found in the names of.

    ``hyperedge:PATTERN`` means the weights that such a hyperedge runs through.
    weights, activations: bits, None for what the recipe says; activations: of what the node reads.
    skip: it stays float.
    """

    pattern: str
    weights: int | None = None
    activations: int | None = None
    skip: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is quantised.

    bits: of weights. activation_bits: None leaves activations float. weights, activations: the
    quantisers, as specifications. ranges, rounding: of activations, of weights; `auto`: by their
    bits, see `range_text` and `rounding_text`. channels: each output channel of a weight has a
    scale of its own. block: so many consecutive inputs share a scale, 0 for all. correction: biases
    take up the mean error of what rounding moved; None: by the bits, as `rounding`. first, last:
    whether layers that read inputs, and those that make outputs, are quantised. products: MatMul of
    two activations too. kernels: 4-bit codes are laid out so that the 8-bit kernels of onnxruntime
    run them; False: in the ONNX types of 4 bits all the way. exclude: patterns of what stays float.
    rules: the first that matches counts.
    """

    bits: int = 8
    activation_bits: int | None = 8
    weights: str = "scaler"
    activations: str = "line"
    ranges: str = BY_BITS
    rounding: str = BY_BITS
    channels: bool = True
    block: int = 0
    correction: bool | None = None
    first: bool = True
    last: bool = True
    products: bool = False
    kernels: bool = True
    exclude: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        """Raise UsageError where a component, a number of bits or a pattern is not known."""
        _check_bits("weights", self.bits, WEIGHT_BITS)
        if self.activation_bits is not None:
            _check_bits("activations", self.activation_bits, ACTIVATION_BITS)
        if self.block < 0 or self.block == 1:
            raise UsageError(f"recipe: block must be 0 or at least 2, not {self.block}")
        for rule in self.rules:
            _check_pattern(rule.pattern)
            if rule.weights is not None:
                _check_bits(f"weights of {rule.pattern!r}", rule.weights, WEIGHT_BITS)
            if rule.activations is not None:
                _check_bits(f"activations of {rule.pattern!r}", rule.activations, ACTIVATION_BITS)
        for pattern in self.exclude:
            _check_pattern(pattern)
        self.parts()

    def parts(self) -> tuple[Quantiser, Quantiser, Range, Rounding]:
        """Quantiser of weights, of activations, what ranges are and how weights are rounded."""
        return (
            parse(self.weights, QUANTISERS, "quantiser"),
            parse(self.activations, QUANTISERS, "quantiser"),
            parse(self.range_text, RANGES, "range"),
            parse(self.rounding_text, ROUNDINGS, "rounding"),
        )

    @property
    def range_text(self) -> str:
        """What finds ranges; of `auto` the least squared error where any value has few bits."""
        if self.ranges != BY_BITS:
            return self.ranges
        return "mse" if _narrow(self._asked_activations) else "minmax"

    @property
    def rounding_text(self) -> str:
        """What rounds weights; of `auto` by the data where any weight has few bits.

        Without activations there need not be any data: `with_data` says that there is.
        """
        if self.rounding != BY_BITS:
            return self.rounding
        by_data = self.activation_bits is not None and self._narrow_weights
        return "gptq" if by_data else "nearest"

    @property
    def _asked_activations(self) -> tuple[int | None, ...]:
        return (self.activation_bits, *(rule.activations for rule in self.rules))

    @property
    def _narrow_weights(self) -> bool:
        return _narrow((self.bits, *(rule.weights for rule in self.rules)))

    @property
    def nearest(self) -> bool:
        """Whether every weight is to be within half a step of its float one."""
        return self.rounding_text == "nearest" and not self.corrects

    @property
    def corrects(self) -> bool:
        """Whether biases take up mean errors; by default where anything has few bits."""
        if self.correction is not None:
            return self.correction
        return self.activation_bits is not None and (
            self._narrow_weights or _narrow(self._asked_activations)
        )

    def with_data(self) -> Recipe:
        """What `auto` is where there is data: weights of few bits are rounded by it."""
        if self.activation_bits is not None or not self._narrow_weights:
            return self
        rounding = "gptq" if self.rounding == BY_BITS else self.rounding
        correction = self.correction is None or self.correction
        return replace(self, rounding=rounding, correction=correction)

    @property
    def needs_data(self) -> bool:
        """Whether calibration data is read."""
        return self.activation_bits is not None or self.parts()[3].needs_data or self.corrects

    def as_trained(self) -> Recipe:
        """What `auto` is where training has settled all: its integers are the nearest ones."""
        rounding = "nearest" if self.rounding == BY_BITS else self.rounding
        return replace(self, rounding=rounding, correction=bool(self.correction))

    def rule_for(self, names: Sequence[str]) -> Rule | None:
        """The first rule that one of the names matches."""
        return next((rule for rule in self.rules if _matches(rule.pattern, names)), None)

    def excludes(self, names: Sequence[str]) -> str:
        """The pattern that keeps what has these names float, or ""."""
        return next((pattern for pattern in self.exclude if _matches(pattern, names)), "")

    def __str__(self) -> str:
        """The text that `parse_recipe` reads; without patterns, which have their own options."""
        name = (
            f"weights=int{self.bits}"
            if self.activation_bits is None
            else f"w{self.bits}a{self.activation_bits}"
        )
        shown = []
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in OPTIONS and value != f.default:
                shown.append(f"{f.name}={str(value).lower() if isinstance(value, bool) else value}")
        return name + (f"{{{','.join(shown)}}}" if shown else "")


OPTIONS = frozenset(
    f.name for f in fields(Recipe) if f.name not in ("bits", "activation_bits", "exclude", "rules")
)


def parse_recipe(text: str) -> Recipe:
    """A recipe from its name with options in braces, or from a JSON or TOML file. UsageError.

    >>> parse_recipe("w4a8{rounding=nearest,first=false}").first
    False
    """
    if Path(text).suffix in (".json", ".toml"):
        return _from_file(Path(text))
    name, brace, rest = text.strip().partition("{")
    base = _named(name.strip(), text)
    if not brace:
        return base
    if not rest.rstrip().endswith("}"):
        raise UsageError(f"recipe {text!r}: the option list must end with '}}'")
    options = {}
    for item in split_outside_braces(rest.rstrip()[:-1]):
        key, equals, value = (part.strip() for part in item.partition("="))
        _known(key, f"recipe {name!r}")
        if not equals:
            raise UsageError(f"recipe {name!r}: option {key!r} needs a value ({key}=...)")
        options[key] = _converted(key, value, f"recipe {name!r}: option {key!r}")
    return replace(base, **options)


def split_outside_braces(text: str) -> list[str]:
    """Items between commas, of which those in braces do not count; empty ones are left out.

    >>> split_outside_braces("ranges=percentile{share=0.99,bins=64},rounding=gptq")
    ['ranges=percentile{share=0.99,bins=64}', 'rounding=gptq']
    """
    items, depth = [""], 0
    for sign in text:
        depth += (sign == "{") - (sign == "}")
        if sign == "," and depth == 0:
            items.append("")
        else:
            items[-1] += sign
    return [item for item in items if item.strip()]


def _named(name: str, text: str) -> Recipe:
    if name in RECIPES:
        return RECIPES[name]
    both, only = NAMED.fullmatch(name), ONLY.fullmatch(name)
    if both is not None:
        return Recipe(int(both["weights"]), int(both["activations"]))
    if only is not None:
        return Recipe(int(only["weights"]), None)
    raise UsageError(
        f"unknown recipe {text!r}{suggest(name, RECIPES)}; or the path of a .json or .toml file"
    )


def _known(key: str, where: str) -> None:
    if key not in OPTIONS:
        raise UsageError(f"{where} has no option {key!r}{suggest(key, OPTIONS)}")


def _converted(key: str, value: Any, where: str) -> Any:
    """The value of an option in the type of its field, from text or from a file."""
    hint = typing.get_type_hints(Recipe)[key]
    if hint in (bool, bool | None):
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise UsageError(f"{where} must be true or false, not {value!r}")
    elif hint is int:
        try:
            return int(value)
        except (TypeError, ValueError):
            raise UsageError(f"{where} must be a whole number, not {value!r}") from None
    elif not isinstance(value, str):
        raise UsageError(f"{where} must be text, not {value!r}")
    return value


def _from_file(path: Path) -> Recipe:
    """{"recipe": "w8a8", options ..., "exclude": [REGEX], "rules": {REGEX: {...}}}."""
    body = read_recipe_file(path)
    return told_by(path, body, parse_recipe(str(body.get("recipe", "w8a8"))))


def read_recipe_file(path: Path) -> dict[str, Any]:
    """The object in a .json or .toml file. UsageError."""
    try:
        text = path.read_text(encoding="utf-8")
        body = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {error}") from error
    if not isinstance(body, dict):
        raise UsageError(f"{path}: must be an object with 'recipe', options, 'exclude', 'rules'")
    return body


def told_by(path: Path, told: Mapping[str, Any], base: Recipe) -> Recipe:
    """`base` with the options, exclusions and rules of a file. UsageError."""
    body = {key: value for key, value in told.items() if key != "recipe"}
    exclude, rules = body.pop("exclude", []), body.pop("rules", {})
    if not isinstance(exclude, list) or not all(isinstance(p, str) for p in exclude):
        raise UsageError(f"{path}: exclude must be a list of patterns")
    if not isinstance(rules, dict):
        raise UsageError(f"{path}: rules must be a table: pattern -> weights, activations, skip")
    for key in body:
        _known(key, str(path))
    options = {k: _converted(k, v, f"{path}: option {k!r}") for k, v in body.items()}
    made = tuple(_rule(path, pattern, rule) for pattern, rule in rules.items())
    return replace(base, exclude=tuple(exclude), rules=made, **options)


def _rule(path: Path, pattern: str, body: Any) -> Rule:
    where = f"{path}: rules[{pattern!r}]"
    if not isinstance(body, dict):
        raise UsageError(f"{where} must be a table with weights, activations or skip")
    for key, value in body.items():
        if key not in ("weights", "activations", "skip"):
            known = ("weights", "activations", "skip")
            raise UsageError(f"{where} has no option {key!r}{suggest(key, known)}")
        if isinstance(value, bool) != (key == "skip") or not isinstance(value, int):
            kind = "true or false" if key == "skip" else "a number of bits"
            raise UsageError(f"{where}.{key} must be {kind}, not {value!r}")
    return Rule(pattern, **body)


def _check_bits(what: str, bits: int, allowed: Sequence[int]) -> None:
    assert set(allowed) <= set(BITS)
    if bits not in allowed:
        text = f"{allowed[0]} to {max(b for b in allowed if b <= 8)}"
        text += " or 16" if 16 in allowed else ""
        raise UsageError(f"recipe: bits of {what} must be {text}, not {bits}")


def _narrow(asked: Sequence[int | None]) -> bool:
    return any(bits is not None and bits < WIDE for bits in asked)


def _matches(pattern: str, names: Sequence[str]) -> bool:
    """Whether a pattern is found in one of the names; HYPEREDGE says which kind is meant.

    A hyperedge is named after one of its axes: `conv1` would mean all that add to its result, too.
    """
    of_edges = pattern.startswith(HYPEREDGE)
    bare = pattern.removeprefix(HYPEREDGE)
    kind = [name for name in names if name.startswith(HYPEREDGE) == of_edges]
    return any(re.search(bare, name.removeprefix(HYPEREDGE)) for name in kind)


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(f"recipe: {pattern!r} is no regular expression: {error}") from None


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "w8a8": Recipe(8, 8),
        "w4a8": Recipe(4, 8),
        "w4a4": Recipe(4, 4),
        "w8a16": Recipe(8, 16),
        "weights=int8": Recipe(8, None),
        "weights=int4": Recipe(4, None),
    }
)
