"""Train gates in a session, by the budget or by the published loss."""

from __future__ import annotations

import numpy as np

from prunec.compiler.cost import Polynomial
from prunec.compiler.errors import UsageError
from prunec.compiler.problem import FloatArray
from prunec.compiler.spec import suggest
from prunec.passes.criteria.gate import Gate
from prunec.passes.gates.controller import Controller, Pace
from prunec.passes.gates.goal import Goal
from prunec.runtime.gates.budgeted import Budgeted
from prunec.runtime.gates.learn import learn
from prunec.runtime.gates.published import Published
from prunec.runtime.gates.session import Gated, Session, steps_of
from prunec.runtime.gates.start import first_theta
from prunec.runtime.training.fit import Extras
from prunec.runtime.training.optimizers import Group


def train_gates(
    session: Session,
    goal: Goal,
    how: Gate,
    extras: Extras,
) -> Gated:
    """Train until the steps are made, or the budget is met and no weights learn.

    Once it is met, the solver says what stays open while weights go on learning, so that what is
    cut in the end is what was trained. Raises PrunecError.
    """
    theta = first_theta(session.subject.graph, how)
    run = _published if how.weight else _budgeted
    return run(session, goal, how, theta, extras)


def _budgeted(
    session: Session,
    goal: Goal,
    how: Gate,
    theta: FloatArray,
    extras: Extras,
) -> Gated:
    # Without weights that learn nothing is gained by steps after the last gate has closed.
    steps = steps_of(session)
    ramp = max(1, round(steps * how.ramp)) if how.train_weights else steps
    pace = Pace(
        ramp=ramp,
        warmup=round(ramp * how.warmup),
        sharpness=how.sharpness,
        memory=how.memory,
        threshold=_logit(how.threshold),
        adaptive=how.adaptive,
    )
    controller = Controller(goal, theta, pace)
    loss = Budgeted(session, controller, how)
    history = learn(session, loss, "gates", [_idle()], extras)
    reached = loss.reached or goal.reached(controller.counts)
    record = {"steps": history.steps, "reached": reached, "open": sum(controller.counts)}
    openness = controller.openness()
    if loss.settled is not None:
        # What was opened again for the sake of alignment counts as open, by a hair.
        openness = np.where(loss.settled, np.maximum(openness, how.threshold), openness / 100)
    return Gated(openness, history, {"gates": record})


def _published(
    session: Session,
    goal: Goal,
    how: Gate,
    theta: FloatArray,
    extras: Extras,
) -> Gated:
    graph = session.subject.graph
    if how.resource not in goal.graph.costs:
        known = [name for name, c in goal.graph.costs.items() if isinstance(c, Polynomial)]
        raise UsageError(
            f"criterion 'gate': no cost {how.resource!r}{suggest(how.resource, known)}"
        )
    loss = Published(session, goal, theta, how)
    history = learn(session, loss, "gates", loss.groups(), extras)
    cost, dense = goal.graph.costs[how.resource], graph.dense()
    ratio = cost(loss.counts) / max(cost(dense), 1)
    record = {
        "steps": history.steps,
        "reached": goal.reached(loss.counts),
        "ratio": {how.resource: ratio},
        "open": sum(loss.counts),
    }
    return Gated(loss.openness(), history, {"gates": record})


def _idle() -> Group:
    """A parameter that never moves: optimizers refuse to have none."""
    from torch import nn, zeros

    return Group((nn.Parameter(zeros(1)),), 0.0, scheduled=False, name="idle")


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))
