"""What comes after slicing: masks, recovery, grouped convolutions, integers; each is checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from prunec.compiler.diagnostics import Diagnostic
from prunec.compiler.plan import Plan
from prunec.runtime.grouped import (
    blocks_of,
    mask_blocks,
    regrouped,
    require_costs,
    require_masked,
)
from prunec.runtime.subject import Subject

if TYPE_CHECKING:
    from prunec.compiler.recovery import Recovered, Recovery
    from prunec.runtime.compile import Settings
    from prunec.runtime.quantize.report import QuantisationReport
    from prunec.runtime.verify import Verification


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """The model that is written, its plan and evidence.

    recovery: None where nothing was recovered, `diagnostics` may say why. gathers: nodes that move
    channels, None where nothing was grouped. quantised: None where nothing was.
    """

    model: ir.Model
    plan: Plan
    verification: Verification | None
    recovery: Recovered | None = None
    diagnostics: tuple[Diagnostic, ...] = ()
    gathers: tuple[str, ...] | None = None
    quantised: QuantisationReport | None = None


def finish(
    subject: Subject,
    plan: Plan,
    sliced: ir.Model,
    recovery: Recovery | None,
    settings: Settings,
    verification: Verification | None,
    progress: Callable[[str], None],
) -> Finished:
    """Go on from what slicing gave and was proved. verification: None proves nothing here either.

    What fails of the grouping is a check that failed. Raises DataError, ModelError, PlanError,
    VerificationError.
    """
    done = Finished(mask_blocks(plan, sliced), plan, verification)
    if recovery is not None:
        from prunec.runtime.recovery.step import recovered

        won = recovered(subject, plan, done.model, recovery, settings, verification, progress)
        done = Finished(won.model, won.plan, won.verification, won.report, won.diagnostics)
        require_masked(plan, won.model)
    if plan.groups:
        done = _grouped(subject, done, progress)
    if settings.quantize is None:
        return done
    from prunec.runtime.quantize.step import quantised_step

    step, marked, proved = quantised_step(
        subject, done.plan, done.model, settings, done.verification, progress
    )
    return replace(
        done,
        model=step.done.model,
        plan=marked,
        verification=proved,
        diagnostics=(*done.diagnostics, *step.diagnostics),
        quantised=step.report,
    )


def _grouped(subject: Subject, done: Finished, progress: Callable[[str], None]) -> Finished:
    progress("grouping convolutions")
    found = regrouped(subject, done.plan, done.model)
    require_costs(done.plan, found)
    proved = done.verification
    if proved is not None:
        from prunec.runtime.regroup.prove import prove

        checks = prove(subject, blocks_of(done.plan), done.model, found.model)
        proved = replace(proved, checks=(*proved.checks, *checks))
    return replace(done, model=found.model, gathers=found.gathers, verification=proved)
