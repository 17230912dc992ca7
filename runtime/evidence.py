"""Evidence for criteria: one collector and one row per kind."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from prunec.compiler.criterion import Criterion
from prunec.compiler.errors import MissingDependencyError, UsageError
from prunec.compiler.spec import suggest
from prunec.compiler.stats import Stats
from prunec.runtime.data import Dataset, load_data
from prunec.runtime.inputs import model_inputs
from prunec.runtime.subject import Subject

if TYPE_CHECKING:
    from prunec.runtime.compile import Progress, Settings

    Collector = Callable[[Subject, Criterion, Settings, Progress], Stats]


def collector_of(criterion: Criterion) -> Collector:
    """The collector of what the criterion needs. Raises UsageError where there is none."""
    if criterion.needs not in COLLECTORS:
        raise UsageError(
            f"criterion {criterion.name!r} needs evidence that nothing collects: "
            f"{criterion.needs!r}{suggest(criterion.needs, COLLECTORS)}"
        )
    return COLLECTORS[criterion.needs]


def require_torch(criterion: Criterion) -> None:
    """Raise MissingDependencyError, naming the criterion, where torch is not installed."""
    try:
        importlib.import_module("torch")
    except ImportError as error:
        raise MissingDependencyError(
            f"criterion {criterion.name!r} needs torch: pip install 'prunec[torch]'"
        ) from error


def data_of(subject: Subject, settings: Settings) -> Dataset:
    """The calibration data, opened for the model. Raises DataError."""
    assert settings.data is not None  # `calibrate` asks for it first
    return load_data(settings.data, model_inputs(subject.model))


def _activations(
    subject: Subject, criterion: Criterion, settings: Settings, progress: Progress
) -> Stats:
    """Statistics of all activation axes that are read, from onnxruntime."""
    from prunec.runtime.calibrate import collect

    return collect(
        subject.model,
        subject.graph.reads,
        data_of(subject, settings),
        zeros=subject.graph.zeros,
        provider=settings.provider,
        threads=settings.threads,
    )


def _gradients(
    subject: Subject, criterion: Criterion, settings: Settings, progress: Progress
) -> Stats:
    """Gradients of single samples, from the torch view. Raises MissingDependencyError."""
    require_torch(criterion)
    from prunec.runtime.gradients import collect

    return collect(subject, criterion, settings, progress)


def _removals(
    subject: Subject, criterion: Criterion, settings: Settings, progress: Progress
) -> Stats:
    """How groups would leave, and what the model loses by it, from onnxruntime."""
    from prunec.runtime.removals import collect

    return collect(subject, criterion, settings, progress)


def _grams(subject: Subject, criterion: Criterion, settings: Settings, progress: Progress) -> Stats:
    """Second moments of what every stored weight multiplies; options: `collect_grams`."""
    from prunec.runtime.recovery.grams import collect_grams
    from prunec.runtime.recovery.recover import Running

    assert settings.data is not None
    running = Running(settings.provider, settings.threads)
    return collect_grams(subject, settings.data, running, progress=progress)


def _gates(subject: Subject, criterion: Criterion, settings: Settings, progress: Progress) -> Stats:
    """Gates that are trained for `Settings.goal`, under the torch view."""
    from prunec.runtime.gates.collect import collect

    return collect(subject, criterion, settings, progress)


COLLECTORS: Mapping[str, Collector] = {
    "activations": _activations,
    "gradients": _gradients,
    "grams": _grams,
    "removals": _removals,
    "gates": _gates,
}
