"""The oracle for a model whose weights were changed after slicing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from prunec.compiler.errors import ModelError
from prunec.compiler.plan import Plan
from prunec.frontends.onnx import load
from prunec.runtime.compile import apply_plan
from prunec.runtime.difference import Failed
from prunec.runtime.legality import check_loading
from prunec.runtime.recovery.only_weights import check_only_weights
from prunec.runtime.subject import Subject
from prunec.runtime.verify import SEED, Check, Verification, verify


def verify_changed(
    subject: Subject, plan: Plan, changed: ir.Model, path: Path | None = None, *, seed: int = SEED
) -> Verification:
    """Prove the slicing by carrying it out again; then only numbers in float tensors may differ.

    path: the file of `changed`, if there is one. Raises PlanError when the plan belongs to another
    model; everything else is a failed check.
    """
    sliced = apply_plan(subject, plan)
    proved = verify(subject, plan, sliced, seed=seed)
    checks = list(proved.checks)
    steps: tuple[tuple[str, Callable[[], str]], ...] = (
        ("loads as written", lambda: check_loading(subject, changed, path)),
        ("recovery", lambda: check_only_weights(load(sliced), changed)),
    )
    for name, step in steps:
        try:
            checks.append(Check(name, True, step()))
        except (Failed, ModelError) as error:
            checks.append(Check(name, False, str(error)))
    return replace(proved, checks=tuple(checks))
