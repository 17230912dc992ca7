"""What workers do with a point: decide from numbers alone; check with the model at hand."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from prunec.compiler.errors import (
    GapError,
    InfeasibleBudgetError,
    PrunecError,
    SolverError,
    VerificationError,
)
from prunec.compiler.extensions import Source as RulesSource
from prunec.compiler.freedom import Freedom
from prunec.compiler.hypergraph import KEPT, Hypergraph, Trace
from prunec.compiler.plan import Plan
from prunec.compiler.problem import FloatArray, Limit
from prunec.passes.options import Options
from prunec.passes.pairwise.importance import Importance
from prunec.passes.pipeline import Choice, decide
from prunec.runtime.accuracy import Accuracy
from prunec.runtime.compile import Settings, apply_plan, recovery_of, silent
from prunec.runtime.data import DataSpec
from prunec.runtime.finish import finish
from prunec.runtime.grouped import slicing
from prunec.runtime.subject import Subject, open_model
from prunec.runtime.sweep.points import State

if TYPE_CHECKING:
    import onnx_ir as ir

    from prunec.compiler.recovery import Recovery
    from prunec.runtime.metrics import MetricSource
    from prunec.runtime.verify import Verification

STATES: Mapping[type[PrunecError], State] = {
    InfeasibleBudgetError: State.INFEASIBLE,
    GapError: State.UNPROVEN,
    SolverError: State.FAILED,
    VerificationError: State.WRONG,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a point has no result; the other points go on."""

    state: State
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """What deciding needs of a model: its costs and scores, not its weights."""

    graph: Hypergraph
    scores: FloatArray | Importance
    options: Options


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker finds the model and the data, and what it shall find out.

    shapes: (input, shape) pairs. data: measure accuracy on it, by `metrics`. recover, calibration:
    how models are recovered before that, and from which data, as in `Settings`.
    """

    path: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    freedom: Freedom
    rules: tuple[RulesSource, ...]
    prove: bool
    data: DataSpec | None
    metrics: tuple[MetricSource, ...]
    recover: str | Recovery
    calibration: DataSpec | None
    provider: str
    threads: int


@dataclass(frozen=True, slots=True)
class Checked:
    """What the model was needed for; None where it was not asked for.

    plan: as it came, or with what was done to recover the model.
    """

    plan: Plan
    verification: Mapping[str, Any] | None
    accuracy: Accuracy | None


def bare(graph: Hypergraph) -> Hypergraph:
    """A hypergraph without what only rewriting and explaining need: a hundredth of the size."""
    none = np.array([KEPT], np.int64)  # the frozen label, which every trace has
    trace = Trace({w.value: () for w in graph.weights}, (), frozenset(), none, none)
    return replace(graph, axes={}, patches=(), reads=(), diagnostics=(), zeros={}, trace=trace)


def failure(error: PrunecError) -> Failure:
    """An error as a value; raises those that concern all points."""
    for kind, state in STATES.items():
        if isinstance(error, kind):
            return Failure(state, str(error))
    raise error


# HiGHS refuses to run twice in a process; waiting here, a solver's time begins when it starts.
_SOLVING = threading.Lock()


def decide_point(numbers: Numbers, limits: tuple[Limit, ...]) -> Choice | Failure:
    """Solve one point; threads of a process take turns."""
    try:
        with _SOLVING:
            return decide(numbers.graph, numbers.scores, limits, numbers.options)
    except PrunecError as error:
        return failure(error)


def check_point(place: Place, plan: Plan) -> Checked | Failure:
    """Rewrite by a plan; prove it, and measure accuracy, as `place` says."""
    subject = _opened(threading.get_ident(), place.path, place.shapes, place.freedom, place.rules)
    return check(subject, plan, place)


def check(subject: Subject, plan: Plan, place: Place) -> Checked | Failure:
    """The same for a model that is open."""
    pruned = apply_plan(subject, plan)
    found = accuracy = None
    try:
        if place.prove:
            from prunec.runtime.verify import verify

            found = verify(subject, slicing(subject, plan), pruned)
            found.require()
        if place.data is not None or plan.groups:
            pruned, plan, found = _finished(subject, plan, pruned, found, place)
        if place.data is not None:
            accuracy = accuracy_of(subject, pruned, place.data, place)
    except VerificationError as error:
        return failure(error)
    return Checked(plan, None if found is None else found.to_dict(), accuracy)


def _finished(
    subject: Subject, plan: Plan, pruned: ir.Model, found: Verification | None, place: Place
) -> tuple[ir.Model, Plan, Verification | None]:
    """The model that the main job would write, with its plan and proof."""
    settings = Settings(
        data=place.calibration,
        recover=place.recover,
        provider=place.provider,
        threads=place.threads,
    )
    recovery = recovery_of(settings) if place.data is not None else None
    won = finish(subject, plan, pruned, recovery, settings, found, silent)
    if won.verification is not None:
        won.verification.require()
    return won.model, won.plan, won.verification


def accuracy_of(subject: Subject, model: Any, spec: DataSpec, how: Place | Settings) -> Accuracy:
    """Accuracy of the dense model or of a pruned one."""
    from prunec.runtime.accuracy import accuracy
    from prunec.runtime.data import load_data
    from prunec.runtime.inputs import model_inputs

    data = load_data(spec, model_inputs(subject.model))
    return accuracy(model, data, how.metrics, provider=how.provider, threads=how.threads)


# One per thread: rewriting reads the graph in ways that threads may not share.
@lru_cache(maxsize=16)
def _opened(
    thread: int,
    path: str,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    freedom: Freedom,
    rules: tuple[RulesSource, ...],
) -> Subject:
    return open_model(path, dict(shapes), freedom=freedom, rules=rules)


def forget() -> None:
    """Let go of the models that threads of this process have opened."""
    _opened.cache_clear()
