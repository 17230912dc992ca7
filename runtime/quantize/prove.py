"""What can be proved of a quantised model: everything but that rounding is harmless."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import ModelError
from prunec.compiler.facts import Facts
from prunec.frontends.functions import inlined
from prunec.passes.quantize.strip import Stripped, strip
from prunec.passes.recovery.storage import tensor_of
from prunec.runtime.difference import Failed, numeric, relative
from prunec.runtime.inputs import bound_inputs, random_feeds
from prunec.runtime.recovery.only_weights import check_only_weights
from prunec.runtime.session import make_session
from prunec.runtime.verify import SEED, TOLERANCES, Check

ROUNDING = 1e-3  # of a step: what float32 makes of a half
HALF = 0.5
FLOAT32 = 2.0**-23


@dataclass(frozen=True, slots=True)
class Moved:
    """How far weights were moved, in steps. saturated: share of elements beyond the last integer.

    largest: over the others. mean: over all.
    """

    largest: float
    mean: float
    saturated: float
    elements: int


def prove(
    source: ir.Model,
    folded: ir.Model,
    facts: Facts,
    quantised: ir.Model,
    *,
    nearest: bool,
    seed: int = SEED,
) -> tuple[Check, ...]:
    """Checks of a quantised model against what it was made of.

    source: the float model. folded, facts: with folded norms, from which it was quantised; biases
    as they were before they took up what rounding shifted. nearest: whether every weight is to be
    within half a step of its float one. Only integers take part in rounding, so that without Q and
    DQ the same graph is left.
    """
    # What arrived quantised stays so: both sides are looked at without Q and DQ.
    found, base = strip(quantised), strip(inlined(folded))
    steps: tuple[tuple[str, Callable[[], str]], ...] = (
        ("norms folded", lambda: _same_outputs(source, folded, facts, seed)),
        ("same but for Q and DQ", lambda: _same_graph(base, found)),
        ("weights rounded", lambda: _rounded(base, found, nearest)),
    )
    checks = []
    for name, step in steps:
        try:
            checks.append(Check(name, True, step()))
        except (Failed, ModelError) as error:
            checks.append(Check(name, False, str(error)))
    return tuple(checks)


def _same_outputs(source: ir.Model, folded: ir.Model, facts: Facts, seed: int) -> str:
    feeds = random_feeds(bound_inputs(source, facts), seed)
    first = make_session(source, optimise=False)
    a, again = first.run(feeds), first.run(feeds)
    b = make_session(folded, optimise=False).run(feeds)
    kinds = {v.dtype for v in source.graph.inputs if v.dtype in TOLERANCES}
    kinds |= {v.dtype for v in source.graph.initializers.values() if v.dtype in TOLERANCES}
    tolerance = max((TOLERANCES[k] for k in kinds if k is not None), default=1e-4)
    names = [str(value.name) for value in source.graph.outputs]
    if _largest(a, again, names) > 0:
        return "proves nothing here: the float model draws random numbers"
    error = _largest(a, b, names)
    if not error <= tolerance:
        raise Failed(f"outputs differ by {error:.1e} of the largest; tolerance {tolerance:.0e}")
    return f"random inputs: largest difference {error:.1e} of the largest output"


def _largest(first: Sequence[Any], second: Sequence[Any], names: Sequence[str]) -> float:
    """The largest relative difference of two runs."""
    pairs = zip(first, second, names, strict=True)
    return max((relative(p, q) for x, y, n in pairs for p, q in numeric(x, y, n)), default=0.0)


def _same_graph(base: Stripped, found: Stripped) -> str:
    check_only_weights(base.model, found.model)
    return (
        f"without {len(found.pairs)} pairs on activations and {len(found.steps)} dequantised "
        "tensors the graph is that of the float model"
    )


def moved(base: Stripped, found: Stripped) -> Moved:
    """How far stored tensors are from the float ones, in steps; not those that came as integers."""
    largest = total = 0.0
    beyond = count = 0
    for name, step in found.steps.items():
        if name in base.steps:
            continue
        value = base.model.graph.initializers.get(name)
        tensor = None if value is None else tensor_of(value)
        new = tensor_of(found.model.graph.initializers[name])
        if tensor is None or new is None:
            raise Failed(f"{name} is no stored tensor of the float model")
        was, now = (t.numpy().astype(np.float64) for t in (tensor, new))
        integers = found.integers[name]
        # Products of large integers and scales are rounded to float32 themselves.
        apart = np.abs(now - was) / step - np.abs(integers.astype(np.float64)) * FLOAT32
        ends = (integers == integers.max()) | (integers == integers.min())
        outward = np.abs(was) > np.abs(now)
        out = ends & outward & (apart > HALF)
        largest = max(largest, float(apart[~out].max(initial=0)))
        total += float(np.maximum(apart, 0).sum())
        beyond += int(out.sum())
        count += apart.size
    return Moved(largest, total / max(count, 1), beyond / max(count, 1), count)


def _rounded(base: Stripped, found: Stripped, nearest: bool) -> str:
    made = moved(base, found)
    if nearest and made.largest > HALF + ROUNDING:
        raise Failed(f"a weight is {made.largest:.3f} steps from the float one, more than half")
    return (
        f"{made.elements} numbers at most {made.largest:.2f} steps from the float ones, "
        f"{made.mean:.2f} on average; {made.saturated:.2%} lie beyond the last integer"
    )
