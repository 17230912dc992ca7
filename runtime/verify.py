"""The oracle: gated dense == pruned, cost polynomial == recount, and a legal, loadable file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.errors import ModelError, PlanError, PrunecError, VerificationError
from prunec.compiler.extensions import extended
from prunec.compiler.interpret import interpret
from prunec.compiler.plan import Plan
from prunec.compiler.rules import RULES
from prunec.frontends.checker import check_fully
from prunec.frontends.shapes import infer_facts
from prunec.passes.apply import Mask, gate
from prunec.runtime.inputs import Feeds, bound_inputs, model_inputs, random_feeds
from prunec.runtime.recount import recount
from prunec.runtime.selectors import selectors, with_contents
from prunec.runtime.session import make_session
from prunec.runtime.subject import Subject

# Two orders of summation differ by a few hundred units in the last place of the narrowest type.
TOLERANCES: Mapping[ir.DataType, float] = {
    ir.DataType.BFLOAT16: 1e-1,
    ir.DataType.FLOAT16: 2e-2,
    ir.DataType.FLOAT: 1e-4,
    ir.DataType.DOUBLE: 1e-10,
}
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
    tolerance = _tolerance(subject.model)
    errors: list[float] = []
    steps: tuple[tuple[str, Callable[[], str]], ...] = (
        ("interface", lambda: _interface(subject.source, pruned)),
        ("weights", lambda: _weights(subject, plan, pruned)),
        ("cost", lambda: _cost(subject, plan, pruned)),
        ("checker", lambda: _checker(pruned)),
        ("dense runs", lambda: _dense_runs(subject, seed)),
        ("load", lambda: _load(subject, pruned, path)),
        ("gated == pruned", lambda: _equal(subject, mask, pruned, tolerance, seed, errors)),
        ("other sizes", lambda: _other_sizes(subject, plan, pruned, tolerance, seed)),
        ("exact weights", lambda: _exact(subject, plan, mask, pruned, tolerance, seed)),
    )
    checks = []
    for name, step in steps:
        try:
            checks.append(Check(name, True, step()))
        except (_Failed, ModelError) as error:
            checks.append(Check(name, False, str(error)))
    return Verification(tuple(checks), errors[0] if errors else None, tolerance)


class _Failed(PrunecError):
    """A check that does not hold, with the evidence."""


def _tolerance(model: ir.Model) -> float:
    present = {v.const_value.dtype for v in model.graph.initializers.values() if v.const_value}
    present |= {v.dtype for v in model.graph.inputs if v.dtype is not None}
    return max((TOLERANCES[d] for d in present if d in TOLERANCES), default=1e-4)


def _interface(dense: ir.Model, pruned: ir.Model) -> str:
    for what, read in (
        ("inputs", lambda m: [(v.name, str(v.dtype), _free_shape(v, m)) for v in m.graph.inputs]),
        ("outputs", lambda m: [(v.name, str(v.dtype), _dims(v)) for v in m.graph.outputs]),
        ("opset imports", lambda m: dict(m.opset_imports)),
        ("metadata", lambda m: dict(m.metadata_props)),
        ("producer", lambda m: (m.producer_name, m.producer_version, m.ir_version)),
    ):
        if read(dense) != read(pruned):
            raise _Failed(f"{what} differ: {read(dense)} became {read(pruned)}")
    return "inputs, outputs, dynamic axes, opsets and metadata are those of the dense model"


def _free_shape(value: ir.Value, model: ir.Model) -> list[str] | None:
    # A weight that is also an input may shrink.
    return None if value.name in model.graph.initializers else _dims(value)


def _dims(value: ir.Value) -> list[str] | None:
    return None if value.shape is None else [str(d) for d in value.shape]


def _weights(subject: Subject, plan: Plan, pruned: ir.Model) -> str:
    """Every stored tensor of the pruned model has the size that the plan says."""
    dense, count = subject.model.graph.initializers, 0
    for name, value in pruned.graph.initializers.items():
        source = dense.get(name)
        if source is None or source.const_value is None or value.const_value is None:
            continue
        shape = list(source.const_value.shape.numpy())
        for axis, kept in plan.weights.get(name, {}).items():
            shape[axis] = len(kept)
        have = list(value.const_value.shape.numpy())
        if have != shape:
            raise _Failed(f"{name} has shape {have}, the plan says {shape}")
        count += 1
    return f"{count} stored tensors have the shapes that the plan says"


def _cost(subject: Subject, plan: Plan, pruned: ir.Model) -> str:
    facts = infer_facts(pruned, subject.shapes)
    counted = recount(pruned, facts, subject.graph.weights)
    counts = plan.counts(subject.graph)
    for resource, polynomial in subject.graph.costs.items():
        claimed = plan.costs.get(resource, (0, -1))[1]
        if not counted[resource] == polynomial(counts) == claimed:
            raise _Failed(
                f"{resource}: recount {counted[resource]}, polynomial {polynomial(counts)}, "
                f"plan {claimed}"
            )
    for resource, limit in plan.budget.items():
        if counted[resource] > limit:
            raise _Failed(f"{resource}: {counted[resource]} exceeds the budget {limit}")
    return "recount == polynomial for " + ", ".join(subject.graph.costs) + "; within budget"


def _checker(pruned: ir.Model) -> str:
    check_fully(pruned)
    return "onnx.checker with full shape inference"


def _dense_runs(subject: Subject, seed: int) -> str:
    """Without it no comparison means anything, and the fault is not in the pruning."""
    try:
        session = make_session(_inert(subject.model), optimise=False)
        feeds = _feeds(subject, seed)
        first, second = session.run(feeds), session.run(feeds)
    except ModelError as error:
        raise _Failed(f"not the pruned, the dense model: {error}; --no-verify skips this") from None
    for a, b, value in zip(first, second, subject.model.graph.outputs, strict=True):
        if any(_relative(x, y) > 0 for x, y in _numeric(a, b, str(value.name))):
            raise _Failed(
                f"output {value.name} of the dense model differs from run to run (it draws random "
                "numbers), so it can't be compared; --no-verify skips this"
            )
    return "the dense model runs under onnxruntime"


def _load(subject: Subject, pruned: ir.Model, path: Path | None) -> str:
    session = make_session(pruned if path is None else path)
    if session.warnings and not make_session(subject.model).warnings:
        raise _Failed(f"onnxruntime warns: {session.warnings[0]}")
    return "onnxruntime loads it without a new warning"


def _equal(
    subject: Subject,
    mask: Mask,
    pruned: ir.Model,
    tolerance: float,
    seed: int,
    errors: list[float],
) -> str:
    gated = gate(subject.model, subject.facts, subject.graph, mask)
    error = _difference(subject, gated, pruned, _feeds(subject, seed))
    errors.append(error)
    if not error <= tolerance:
        raise _Failed(f"outputs differ by {error:.2e} of the largest; tolerance {tolerance:.0e}")
    return f"random inputs: largest difference {error:.1e} of the largest output"


def _other_sizes(
    subject: Subject, plan: Plan, pruned: ir.Model, tolerance: float, seed: int
) -> str:
    """The same at another batch: a shape constant that holds for the bound size only shows."""
    shapes = _larger_batch(subject)
    if shapes is None:
        return "no symbolic batch"
    feeds = random_feeds(model_inputs(subject.model), seed, shapes=shapes)
    try:
        make_session(subject.model, optimise=False).run(feeds)
    except ModelError:
        return "the dense model runs at no larger batch"
    # Analysed anew: a reshape that merges the batch with channels has longer axes now.
    facts = infer_facts(subject.model, shapes)
    graph = interpret(subject.model, facts, extended(RULES, "prunec.rules"))
    try:
        gated = gate(subject.model, facts, graph, plan.mask(graph))
    except PlanError:
        raise _Failed(f"at {_in_words(shapes)} other channels are coupled") from None
    error = _difference(subject, gated, pruned, feeds)
    if not error <= tolerance:
        raise _Failed(f"at {_in_words(shapes)} outputs differ by {error:.2e} of the largest")
    return f"at {_in_words(shapes)}: largest difference {error:.1e}"


def _larger_batch(subject: Subject) -> dict[str, tuple[int, ...]] | None:
    """Input shapes with every symbol of a first axis two larger, or None without such symbols."""
    specs = model_inputs(subject.model)
    batch = {s.shape[0] for s in specs if s.shape and isinstance(s.shape[0], str)}
    if not batch:
        return None
    return {
        s.name: tuple(
            n + 2 if dim in batch else n
            for dim, n in zip(s.shape or (), subject.facts.shapes[s.name], strict=True)
        )
        for s in specs
    }


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
        error = _difference(subject, gated, slim, _feeds(subject, seed))
        if not error <= tolerance:
            raise _Failed(f"with one-term weights outputs differ by {error:.2e} of the largest")
        if _responds(subject, gated, seed):
            kind = "equal in every bit" if error == 0 else f"largest difference {error:.1e}"
            return f"{len(contents)} weights replaced by one-term sums: {kind}"
    return "proves nothing here: with one-term weights no signal reaches the outputs"


def _responds(subject: Subject, gated: ir.Model, seed: int) -> bool:
    """Whether the outputs depend on the inputs: constants are equal however channels are cut."""
    session = make_session(_inert(gated), optimise=False)
    first, second = (session.run(_feeds(subject, s)) for s in (seed, seed + 1))
    return any(
        x.shape == y.shape and not np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        for a, b, value in zip(first, second, subject.model.graph.outputs, strict=True)
        if not isinstance(a, np.ndarray) or a.shape == b.shape
        for x, y in _numeric(a, b, str(value.name))
    )


def _difference(subject: Subject, gated: ir.Model, pruned: ir.Model, feeds: Feeds) -> float:
    """Largest output difference, relative to the largest output of the gated model."""
    worst = 0.0
    expected = make_session(_inert(gated), optimise=False).run(feeds)
    got = make_session(_inert(pruned), optimise=False).run(feeds)
    for a, b, value in zip(expected, got, subject.model.graph.outputs, strict=True):
        for x, y in _numeric(a, b, str(value.name)):
            worst = max(worst, _relative(x, y))
    return worst


def _inert(model: ir.Model) -> ir.Model:
    """The model with Dropout switched off: its random masks would differ between two graphs."""
    if not any(node.op_type == "Dropout" and len(node.inputs) > 2 for node in model.graph):
        return model
    clone = model.clone()
    for node in clone.graph:
        if node.op_type == "Dropout" and len(node.inputs) > 2:
            node.resize_inputs(2)
    return clone


def _numeric(a: Any, b: Any, name: str) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    if isinstance(a, list):  # a sequence output
        for x, y in zip(a, b, strict=True):
            yield from _numeric(x, y, name)
        return
    if not isinstance(a, np.ndarray) or a.dtype.kind not in "fiub":
        return
    if a.shape != b.shape:
        raise _Failed(f"output {name} has shape {b.shape} instead of {a.shape}")
    yield a, b


def _relative(a: NDArray[Any], b: NDArray[Any]) -> float:
    if not a.size:
        return 0.0
    x, y = a.astype(np.float64), b.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    if same.all():
        return 0.0
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite[~same].all():
        return float("inf")
    return float(np.abs(x - y)[~same].max() / max(np.abs(x[finite]).max(), 1e-30))


def _feeds(subject: Subject, seed: int) -> Feeds:
    return random_feeds(bound_inputs(subject.model, subject.facts), seed, shapes=subject.shapes)
