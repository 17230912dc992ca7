"""The oracle: gated dense == pruned, cost polynomial == recount, and a legal, loadable file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from prunec.compiler.constants import attribute
from prunec.compiler.errors import ModelError, PlanError, VerificationError
from prunec.compiler.interpret import interpret
from prunec.compiler.plan import Plan
from prunec.compiler.walk import initializers, nodes
from prunec.frontends.functions import inlined
from prunec.frontends.shapes import infer_facts
from prunec.passes.gate import Mask, gate
from prunec.passes.positions import with_zeros
from prunec.runtime.difference import Failed, numeric, relative
from prunec.runtime.inputs import Feeds, bound_inputs, model_inputs, random_feeds
from prunec.runtime.legality import (
    check_costs,
    check_interface,
    check_loading,
    check_standard,
    check_weights,
)
from prunec.runtime.selection import Pair, with_same_choices
from prunec.runtime.selectors import selectors, with_contents
from prunec.runtime.session import make_session
from prunec.runtime.sizes import other_sizes
from prunec.runtime.steer import steerable, steered
from prunec.runtime.subject import Subject, shapers
from prunec.runtime.thin import zeroed_of
from prunec.runtime.trial import Dies, require_survival
from prunec.runtime.widen import runnable

# Two orders of summation differ by a few hundred units in the last place of the narrowest type.
TOLERANCES: Mapping[ir.DataType, float] = {
    ir.DataType.BFLOAT16: 1e-1,
    ir.DataType.FLOAT16: 2e-2,
    ir.DataType.FLOAT: 1e-4,
    ir.DataType.DOUBLE: 1e-10,
}
# Some products round activations to integers inside: where two orders of summation fall on
# different sides of a boundary, a value moves by a step, 1 / 127 of the largest with 8 bits.
STEP_TOLERANCE = 1e-2
SEED = 0
SELECTOR_SEEDS = 4  # one-term weights may end every signal in a Relu: others are tried


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked: what, whether it holds, and the evidence."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The oracle's result. max_error: relative to the largest output, or None if nothing ran."""

    checks: tuple[Check, ...]
    max_error: float | None
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "passed": self.passed,
            "max_error": self.max_error,
            "tolerance": self.tolerance,
            "checks": {c.name: {"passed": c.passed, "detail": c.detail} for c in self.checks},
        }

    def require(self) -> None:
        """Raise VerificationError unless every check holds."""
        for check in self.checks:
            if not check.passed:
                raise VerificationError(f"verification failed: {check.name}: {check.detail}")


def verify(
    subject: Subject, plan: Plan, pruned: ir.Model, path: Path | None = None, *, seed: int = SEED
) -> Verification:
    """Check a pruned model against the dense one and its plan.

    path: the written file, if there is one: it is what gets loaded. Raises PlanError when the
    plan belongs to another model; everything else is a failed check.
    """
    mask = plan.mask(subject.graph)
    zeroed = replace(subject, model=with_zeros(subject.model, zeroed_of(plan)))
    stand = runnable(zeroed, inlined(pruned))
    ran, flat, note = stand.subject, stand.pruned, stand.note
    tolerance = tolerance_of(ran)
    errors: list[float] = []
    steps: tuple[tuple[str, Callable[[], str]], ...] = (
        ("interface", lambda: check_interface(subject.source, pruned)),
        ("weights", lambda: check_weights(subject, plan, pruned)),
        ("cost", lambda: check_costs(subject, plan, inlined(pruned))),
        ("checker", lambda: check_standard(subject.source, pruned)),
        ("dense runs", lambda: _dense_runs(ran, flat, seed, note)),
        ("load", lambda: note or check_loading(subject, pruned, path)),
        ("gated == pruned", lambda: _equal(ran, mask, flat, tolerance, seed, errors)),
        ("other sizes", lambda: _other_sizes(ran, plan, flat, tolerance, seed)),
        ("exact weights", lambda: _exact(ran, plan, mask, flat, tolerance, seed)),
    )
    led = steerable(subject.model, subject.facts, subject.graph)
    if led:
        steps += (("both ways", lambda: _both_ways(ran, led, mask, flat, tolerance, seed)),)
    if subject.model is not subject.source and subject.source.functions and not note:
        expanded = ((subject.source, subject.model), (pruned, flat))
        steps += (("functions", lambda: _functions(subject, expanded, tolerance, seed)),)
    checks = []
    for name, step in steps:
        try:
            checks.append(Check(name, True, step()))
        except (Failed, ModelError) as error:
            checks.append(Check(name, False, str(error)))
            if isinstance(error, Dies):
                break  # the next run would end this process
    return Verification(tuple(checks), errors[0] if errors else None, tolerance)


def tolerance_of(subject: Subject) -> float:
    """How far outputs may be apart, of the largest, where sums run in another order."""
    graph = subject.model.graph
    present = {v.const_value.dtype for v in initializers(graph).values() if v.const_value}
    present |= {v.dtype for v in graph.inputs if v.dtype is not None}
    known = [TOLERANCES[d] for d in present if d in TOLERANCES]
    if any(map(_rounds_inside, nodes(graph))):
        known.append(STEP_TOLERANCE)
    return max(known, default=1e-4)


def _rounds_inside(node: ir.Node) -> bool:
    if node.op_type == "MatMulNBits":  # level 4: activations become 8-bit integers
        return bool(attribute(node, "accuracy_level", 0) == 4)
    return node.op_type == "DynamicQuantizeMatMul"


def _dense_runs(subject: Subject, pruned: ir.Model, seed: int, note: str) -> str:
    """Without it no comparison means anything, and the fault is not in the pruning."""
    feeds = _feeds(subject, seed)
    require_survival(subject.model, feeds)
    require_survival(pruned, feeds, "the pruned model")
    try:
        session = make_session(_inert(subject.model), optimise=False)
        first, second = session.run(feeds), session.run(feeds)
    except ModelError as error:
        sizes = ", ".join(f"{symbol}={number}" for symbol, number in subject.facts.bound.items())
        hint = f" (it ran at {sizes}; --shape gives others)" if sizes else ""
        raise Failed(
            f"not the pruned, the dense model: {error}{hint}; --no-verify skips this"
        ) from None
    for a, b, value in zip(first, second, subject.model.graph.outputs, strict=True):
        if any(relative(x, y) > 0 for x, y in numeric(a, b, str(value.name))):
            raise Failed(
                f"output {value.name} of the dense model differs from run to run (it draws random "
                "numbers), so it can't be compared; --no-verify skips this"
            )
    return note or "the dense model runs under onnxruntime"


def _functions(
    subject: Subject,
    expanded: Sequence[tuple[ir.Model, ir.Model]],
    tolerance: float,
    seed: int,
) -> str:
    """What was compared has its function calls expanded; the files have not."""
    for model, flat in expanded:
        error = difference(subject, model, flat, _feeds(subject, seed))
        if not error <= tolerance:
            raise Failed(f"expanding the functions changes outputs by {error:.2e} of the largest")
    pruned = expanded[-1][0]
    left = sum(node.op_identifier() in pruned.functions for node in nodes(pruned.graph))
    return f"expanding them changes nothing; {left} calls are left"


def _equal(
    subject: Subject,
    mask: Mask,
    pruned: ir.Model,
    tolerance: float,
    seed: int,
    errors: list[float],
) -> str:
    gated = gate(subject.model, subject.facts, subject.graph, mask)
    pair = Pair(gated, pruned, subject.facts, subject.graph, mask)
    error, note = _compare(subject, pair, _feeds(subject, seed), tolerance)
    errors.append(error)
    if not error <= tolerance:
        raise Failed(f"outputs differ by {error:.2e} of the largest; tolerance {tolerance:.0e}")
    return f"random inputs: largest difference {error:.1e} of the largest output{note}"


def _other_sizes(
    subject: Subject, plan: Plan, pruned: ir.Model, tolerance: float, seed: int
) -> str:
    """The same at other sizes: a shape constant that holds for the bound ones only shows."""
    known = [
        (shapes, feeds)
        for shapes in other_sizes(subject)
        for feeds in [random_feeds(model_inputs(subject.model), seed, shapes=shapes)]
        if _runs(subject, feeds)
    ]
    if not known:
        return "no symbolic size, or the dense model runs at no other"
    shapes, feeds = known[0]
    # Analysed anew: a reshape that merges the batch with channels has longer axes now.
    facts = infer_facts(subject.model, shapes, shapers(subject.extensions))
    graph = interpret(subject.model, facts, subject.extensions.rules, subject.graph.freedom)
    try:
        mask = plan.mask(graph)
    except PlanError:
        raise Failed(f"at {_in_words(shapes)} other channels are coupled") from None
    gated = gate(subject.model, facts, graph, mask)
    error, note = _compare(subject, Pair(gated, pruned, facts, graph, mask), feeds, tolerance)
    if not error <= tolerance:
        raise Failed(f"at {_in_words(shapes)} outputs differ by {error:.2e} of the largest")
    return f"at {_in_words(shapes)}: largest difference {error:.1e}{note}"


def _runs(subject: Subject, feeds: Feeds) -> bool:
    try:
        make_session(subject.model, optimise=False).run(feeds)
    except ModelError:
        return False
    return True


def _in_words(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def _exact(
    subject: Subject, plan: Plan, mask: Mask, pruned: ir.Model, tolerance: float, seed: int
) -> str:
    for attempt in range(seed, seed + SELECTOR_SEEDS):
        contents = selectors(subject.model, subject.graph, mask, attempt)
        dense = with_contents(subject.model, contents, {})
        gated = gate(dense, subject.facts, subject.graph, mask)
        slim = with_contents(pruned, contents, plan.weights)
        pair = Pair(gated, slim, subject.facts, subject.graph, mask)
        error, note = _compare(subject, pair, _feeds(subject, seed), tolerance)
        if not error <= tolerance:
            raise Failed(f"with one-term weights outputs differ by {error:.2e} of the largest")
        if responds(subject, gated, seed):
            kind = "equal in every bit" if error == 0 else f"largest difference {error:.1e}"
            return f"{len(contents)} weights replaced by one-term sums: {kind}{note}"
    return "proves nothing here: with one-term weights no signal reaches the outputs"


def _both_ways(
    subject: Subject,
    led: Collection[str],
    mask: Mask,
    pruned: ir.Model,
    tolerance: float,
    seed: int,
) -> str:
    """The same with every If led to its then branch, and to the other: data may never go there."""
    gated = gate(subject.model, subject.facts, subject.graph, mask)
    feeds = _feeds(subject, seed)
    ran = []
    for choice, branch in ((True, "then"), (False, "else")):
        try:
            dense = steered(subject.model, led, choice)
            make_session(_inert(dense), optimise=False).run(feeds)
        except ModelError:
            continue  # these inputs would not go there
        a, b = steered(gated, led, choice), steered(pruned, led, choice)
        pair = Pair(a, b, subject.facts, subject.graph, mask)
        error, note = _compare(subject, pair, feeds, tolerance)
        if not error <= tolerance:
            raise Failed(f"led to the {branch} branches, outputs differ by {error:.2e}")
        ran.append(f"{branch}: largest difference {error:.1e}{note}")
    return f"{len(led)} branching nodes led by hand; " + ", ".join(ran or ["nothing runs then"])


def responds(subject: Subject, gated: ir.Model, seed: int) -> bool:
    """Whether the outputs depend on the inputs: constants are equal however channels are cut."""
    session = make_session(_inert(gated), optimise=False)
    first, second = (session.run(_feeds(subject, s)) for s in (seed, seed + 1))
    pairs = list(zip(first, second, subject.model.graph.outputs, strict=True))
    if any(isinstance(a, np.ndarray) and a.shape != b.shape for a, b, _ in pairs):
        return True
    return any(
        not np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        for a, b, value in pairs
        for x, y in numeric(a, b, str(value.name))
    )


def _compare(subject: Subject, pair: Pair, feeds: Feeds, tolerance: float) -> tuple[float, str]:
    """Largest relative difference, and what must be said beside it.

    Where outputs differ, or how many there are depends on the data, both graphs are compared with
    the same choices: rounding may turn one around, and no output at all proves nothing.
    """
    error, failure = float("inf"), None
    if not pair.facts.assumed:
        try:
            error = difference(subject, pair.gated, pair.pruned, feeds)
        except Failed as why:
            failure = why
        if error <= tolerance:
            return error, ""
    names = [str(v.name) for v in subject.model.graph.outputs]
    pairs = with_same_choices(pair, feeds, names)
    if pairs is not None:
        compared = (relative(x, y) for name, a, b in pairs for x, y in numeric(a, b, name))
        return max(compared, default=0.0), ", as of the values that decide what is selected"
    if failure is not None:
        raise failure
    if pair.facts.assumed:
        error = difference(subject, pair.gated, pair.pruned, feeds)
    return error, ""


def difference(subject: Subject, gated: ir.Model, pruned: ir.Model, feeds: Feeds) -> float:
    """Largest output difference, relative to the largest output of the gated model."""
    worst = 0.0
    expected = make_session(_inert(gated), optimise=False).run(feeds)
    got = make_session(_inert(pruned), optimise=False).run(feeds)
    for a, b, value in zip(expected, got, subject.model.graph.outputs, strict=True):
        for x, y in numeric(a, b, str(value.name)):
            worst = max(worst, relative(x, y))
    return worst


def _inert(model: ir.Model) -> ir.Model:
    """The model with Dropout switched off: its random masks would differ between two graphs."""
    if not any(n.op_type == "Dropout" and len(n.inputs) > 2 for n in nodes(model.graph)):
        return model
    clone = model.clone()
    for node in nodes(clone.graph):
        if node.op_type == "Dropout" and len(node.inputs) > 2:
            node.resize_inputs(2)
    return clone


def _feeds(subject: Subject, seed: int) -> Feeds:
    return random_feeds(bound_inputs(subject.model, subject.facts), seed, shapes=subject.shapes)
