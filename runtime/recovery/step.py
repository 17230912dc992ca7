"""Recovery as a step of the main job: carried out, checked, and written into the plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from prunec.compiler.diagnostics import Diagnostic, Severity
from prunec.compiler.errors import DataError, VerificationError
from prunec.compiler.plan import Plan
from prunec.compiler.recovery import Recovered, Recovery
from prunec.compiler.spec import render
from prunec.runtime.difference import Failed
from prunec.runtime.recovery.bench import NotFiniteError
from prunec.runtime.recovery.choice import AUTO
from prunec.runtime.recovery.only_weights import check_only_weights
from prunec.runtime.recovery.recover import Running, recover
from prunec.runtime.recovery.samples import TooFewError
from prunec.runtime.subject import Subject
from prunec.runtime.verify import Check, Verification

if TYPE_CHECKING:
    from prunec.runtime.compile import Settings


@dataclass(frozen=True, slots=True, eq=False)
class Won:
    """What a recovery leaves behind. report: None where nothing was done, `diagnostics` say why."""

    model: ir.Model
    plan: Plan
    verification: Verification | None
    report: Recovered | None
    diagnostics: tuple[Diagnostic, ...] = ()


def recovered(
    subject: Subject,
    plan: Plan,
    sliced: ir.Model,
    recovery: Recovery,
    settings: Settings,
    verification: Verification | None,
    progress: Callable[[str], None],
) -> Won:
    """Recover a model that was sliced and proved, and check that only weights changed.

    The plan gets the component's specification. Where nobody asked for a recovery (auto) and the
    samples are too few for one, or the models overflow on them, the model stays. Raises DataError,
    ModelError, VerificationError.
    """
    progress("recovering")
    running = Running(settings.provider, settings.threads)
    try:
        model, report = recover(subject, plan, sliced, settings.data, recovery, running, progress)
    except (TooFewError, NotFiniteError) as error:
        if settings.recover != AUTO:
            raise DataError(str(error)) from error
        note = Diagnostic("not-recovered", "", str(error), Severity.INFO)
        return Won(sliced, plan, verification, None, (note,))
    try:
        said = check_only_weights(sliced, model)
    except Failed as error:
        raise VerificationError(f"verification failed: recovery: {error}") from error
    if verification is not None:
        check = Check("recovery", True, said)
        verification = replace(verification, checks=(*verification.checks, check))
    marked = replace(plan, components={**plan.components, "recovery": render(recovery)})
    return Won(model, marked, verification, report, report.diagnostics)
