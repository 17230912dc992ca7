"""Evidence of the criterion `gate`: gates that were trained for the budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from prunec.compiler.criterion import Criterion
from prunec.compiler.errors import UsageError
from prunec.compiler.stats import Stats
from prunec.passes.criteria.gate import Gate
from prunec.passes.gates.goal import Goal
from prunec.runtime.gates.run import train_gates
from prunec.runtime.gates.session import open_session
from prunec.runtime.subject import Subject
from prunec.runtime.training.fit import Extras
from prunec.runtime.training.settings import Recipe, Sgd, TrainSettings

if TYPE_CHECKING:
    from prunec.runtime.compile import Progress, Settings

ALPHA = 0.5  # of the dense model's outputs beside labels


def collect(
    subject: Subject, criterion: Criterion, settings: Settings, progress: Progress
) -> Stats:
    """Probabilities of open gates. Raises UsageError where no budget is known, DataError."""
    how = cast(Gate, criterion)
    assert settings.data is not None
    goal = settings.goal
    if goal is None:
        if not how.weight:
            raise UsageError(
                "criterion 'gate' trains for one budget: use it with one, reuse its scores at "
                "others (--save-scores, --scores), or give weight= for the published loss"
            )
        number = len(subject.graph.edges)
        goal = Goal(subject.graph, (), np.ones(number, np.int64), np.ones(number))
    train = TrainSettings(
        steps=how.steps,
        batch=how.batch,
        optimizer=Sgd(),
        learning_rate=how.learning_rate,
        clip=0.0 if how.weight else 5.0,
        seed=how.seed,
        threads=settings.threads,
        device="cuda" if settings.provider == "cuda" else "cpu",
    )
    recipe = Recipe(labels=how.labels, alpha=ALPHA)
    progress("training gates: reading the data")
    session = open_session(subject, settings.data, recipe, train, weights=how.train_weights)
    extras = Extras(progress=lambda text: progress(f"training gates: {text}"))
    found = train_gates(session, goal, how, extras)
    samples = found.history.steps * session.settings.batch * session.settings.accumulate
    return Stats(samples=samples, openness=found.openness, record=found.record)
