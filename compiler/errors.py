"""One exception class per cause; facts are fields, the message says what came and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.compiler.reasons import Reason


class PrunecError(Exception):
    """The user's input cannot be served; printed as one line, without a traceback."""

    exit_code = 1


class UsageError(PrunecError):
    """The command line, a specification string or a configuration file is not well formed."""

    exit_code = 2


class ModelError(PrunecError):
    """The model file is missing, unreadable, unsafe or not a legal ONNX graph."""


class DataError(PrunecError):
    """The calibration or evaluation data does not fit the model or cannot be read."""


class PlanError(PrunecError):
    """A plan is malformed, or was made for another model."""


class ProfileError(PrunecError):
    """A latency profile is malformed, or does not know what is asked of it."""


class ScoresError(PrunecError):
    """A file of scores is malformed, or was made for another model."""


class OutputError(PrunecError):
    """A result cannot be written; nothing was changed."""


class MissingDependencyError(PrunecError):
    """A feature needs a package that is not installed."""


class NothingToPruneError(PrunecError):
    """No channel of the model can be removed."""

    exit_code = 3


class SolverError(PrunecError):
    """A solver's back end crashed or gave an answer that does not hold."""


class VerificationError(PrunecError):
    """The pruned model is not equal to the gated dense model, or its costs are not as claimed."""

    exit_code = 4


def _amount(resource: str, amount: int) -> str:
    """As `--budget` takes it; latency counts in nanoseconds."""
    return f"{amount * 1e-6:.7g}ms" if resource == "latency" else str(amount)


@dataclass(eq=False)
class InfeasibleBudgetError(PrunecError):
    """A budget lies below what the smallest reachable model costs; None where that is unknown."""

    resource: str
    limit: int
    smallest: int | None
    dense: int
    held_by: tuple[tuple[str, float], ...] = ()

    exit_code = 3

    def __str__(self) -> str:
        text = (
            f"budget {self.resource} <= {_amount(self.resource, self.limit)} "
            f"({self.limit / max(self.dense, 1):.4f} of dense) cannot be met: "
        )
        if self.smallest is None:
            text += "it is proven that no choice keeps to every limit"
        else:
            ratio = self.smallest / max(self.dense, 1)
            smallest = _amount(self.resource, self.smallest)
            text += f"the smallest reachable value is {smallest} ({ratio:.4f})"
        if self.held_by:
            held = ", ".join(f"{name} {share:.1%}" for name, share in self.held_by)
            text += f"; held there by {held}"
        kinds = {reason.value: reason for reason in Reason if reason.can_be_freed}
        for name in [name for name, _ in self.held_by if name in kinds][:1]:
            text += f"; what would free {name}: {kinds[name].remedy}"
        return (
            text + "; raise the budget, lower --min-keep or --align, or release what is protected "
            "(`prunec inspect MODEL` shows all barriers and what would free them)"
        )


@dataclass(eq=False)
class GapError(PrunecError):
    """The solver could not prove the optimality gap that was asked for."""

    gap: float
    max_gap: float

    exit_code = 3

    def __str__(self) -> str:
        return (
            f"the proven gap is {self.gap:.4%}, more than --max-gap {self.max_gap:.4%}; "
            "give the solver more time (--solver 'milp{time_limit=300}') or accept a larger gap"
        )


@dataclass(eq=False)
class NotFasterError(PrunecError):
    """The pruned model did not reach the speed-up that was asked for.

    low: lower end of the 95 % interval of the measured speed-up `ratio`.
    """

    ratio: float
    low: float
    least: float

    exit_code = 5

    def __str__(self) -> str:
        return (
            f"the pruned model is {self.ratio:.3f} times as fast as the dense one (at least "
            f"{self.low:.3f} with 95 % confidence), less than --min-speedup {self.least:g}; "
            "nothing was written. Use a smaller budget, --align 8 or 16, or --budget latency=..."
        )


@dataclass(eq=False)
class TrainingError(PrunecError):
    """The loss is not a number any more.

    best: the epoch whose weights the model has now; history: what was trained until then.
    """

    epoch: int
    step: int
    best: int | None = None
    history: object = None

    def __str__(self) -> str:
        kept = (
            "no better weights are known"
            if not self.best
            else f"the best weights so far, of epoch {self.best}, were kept"
        )
        return (
            f"training diverged: the loss is not a number in epoch {self.epoch}, by step "
            f"{self.step}; {kept}. Use a lower --learning-rate, a longer --warmup or --clip 1"
        )


def first_line(error: BaseException) -> str:
    """What another library's exception says first; its class where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
