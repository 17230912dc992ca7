"""The public functions: what the command line does, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from prunec.compiler.criterion import Criterion
from prunec.compiler.errors import UsageError
from prunec.compiler.extensions import Source as RulesSource
from prunec.compiler.extensions import extended
from prunec.compiler.freedom import Freedom
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.plan import Plan
from prunec.compiler.problem import Solver
from prunec.compiler.spec import parse
from prunec.frontends import onnx as onnx_frontend
from prunec.passes.criteria import CRITERIA
from prunec.passes.pipeline import Options, Override
from prunec.passes.solvers import SOLVERS
from prunec.runtime.compile import Result, Settings, compile_model, plan_for, plan_path
from prunec.runtime.data import DataSpec
from prunec.runtime.subject import Source, Subject, open_model
from prunec.tools.plan_file import read_plan

if TYPE_CHECKING:
    from prunec.runtime.verify import Verification

Shapes = Mapping[str, Sequence[int]]
Rules = RulesSource | Sequence[RulesSource]


def load(source: Source | Any, example_inputs: Any = None) -> ir.Model:
    """Read a model: a path, bytes, ModelProto, onnx_ir.Model, gs.Graph, or a torch module.

    A torch.nn.Module needs example inputs: a tuple, or one tensor. Raises ModelError, UsageError.
    """
    if example_inputs is not None:
        from prunec.frontends.torch import from_torch

        module: Any = source
        several = isinstance(example_inputs, tuple)
        return from_torch(module, example_inputs if several else (example_inputs,))
    return onnx_frontend.load(source)


def prune(
    model: Source,
    budget: str | Sequence[str] | Mapping[str, float | str],
    *,
    score: str | Criterion = "magnitude",
    solver: str | Solver = "auto",
    align: int | None = None,
    min_keep: int = 1,
    keep: str | Sequence[str] = (),
    only: str | Sequence[str] = (),
    overrides: Mapping[str, Override] | None = None,
    max_gap: float | None = None,
    exponent: float = 1.0,
    residual: bool = False,
    heads: bool = False,
    shapes: Shapes | None = None,
    rules: Rules = (),
    data: DataSpec | str | None = None,
    verify: bool = True,
    bench: bool = False,
    output: str | Path | None = None,
) -> Result:
    """Prune a model to a budget and prove the rewriting.

    budget: ``"flops=0.46,bytes=4MB"`` or ``{"flops": 0.46, "bytes": "4MB"}``. shapes: sizes of
    inputs with symbolic dimensions. residual: channels that a norm, softmax or mean runs over may
    leave; the result is then not the gated model, and is proven against one whose statistics run
    over the kept channels. heads: remove whole attention heads, not positions within heads.
    rules: modules, their names or files, with RULES for operators that prunec does not know.
    align: None = min(8, max(1, size // 8)) per hyperedge. output: also write the model there,
    with the plan beside it. Needs onnxruntime unless ``verify=False``. Raises PrunecError.

    >>> import prunec
    >>> from prunec.tools.demo import DIGITS
    >>> result = prunec.prune(DIGITS, "flops=0.5", verify=False)
    >>> result.report.costs["flops"][1] <= result.report.budget["flops"]
    True
    """
    options = Options(
        criterion=_criterion(score) if isinstance(score, str) else score,
        solver=_solver(solver) if isinstance(solver, str) else solver,
        align=align,
        min_keep=min_keep,
        keep=(keep,) if isinstance(keep, str) else tuple(keep),
        only=(only,) if isinstance(only, str) else tuple(only),
        overrides=overrides or {},
        max_gap=max_gap,
        exponent=exponent,
    )
    settings = Settings(
        shapes=_shapes(shapes),
        data=_data(data),
        verify=verify,
        bench=bench,
        freedom=Freedom(residual, heads),
        rules=_sources(rules),
    )
    subject = _open(model, settings)
    chosen = plan_for(subject, _budget(budget), options, settings)
    out = None if output is None else Path(output)
    beside = None if out is None else plan_path(out)
    return compile_model(subject, chosen, settings, out, beside)


def plan(
    model: Source,
    budget: str | Sequence[str],
    options: Options | None = None,
    settings: Settings | None = None,
) -> Plan:
    """Decide what to keep, without rewriting. Raises PrunecError."""
    settings = settings or Settings()
    subject = _open(model, settings)
    return plan_for(subject, budget, options or Options(), settings)


def apply(model: Source, plan: Plan | str | Path, settings: Settings | None = None) -> Result:
    """Rewrite a model by a plan, or its file; the same model and plan give the same bytes."""
    settings = settings or Settings()
    made = plan if isinstance(plan, Plan) else read_plan(Path(plan))
    subject = _open(model, replace(settings, freedom=made.freedom))
    return compile_model(subject, made, settings)


def inspect(
    model: Source,
    shapes: Shapes | None = None,
    *,
    residual: bool = False,
    heads: bool = False,
    rules: Rules = (),
) -> Hypergraph:
    """Hyperedges, exact costs and diagnostics of a model; `coverage` says what holds the rest."""
    freedom = Freedom(residual, heads)
    return open_model(model, _shapes(shapes), freedom=freedom, rules=_sources(rules)).graph


def verify(
    dense: Source,
    pruned: Source,
    plan: Plan,
    shapes: Shapes | None = None,
    *,
    rules: Rules = (),
) -> Verification:
    """Run the oracle alone: is `pruned` what `plan` makes of `dense`?"""
    from prunec.runtime.verify import verify as run

    subject = open_model(dense, _shapes(shapes), freedom=plan.freedom, rules=_sources(rules))
    return run(subject, plan, onnx_frontend.load(pruned))


def _open(model: Source, settings: Settings) -> Subject:
    return open_model(
        model,
        settings.shapes,
        strict=settings.strict,
        freedom=settings.freedom,
        rules=settings.rules,
    )


def _sources(rules: Rules) -> tuple[RulesSource, ...]:
    return (rules,) if isinstance(rules, RulesSource) else tuple(rules)


def _budget(budget: str | Sequence[str] | Mapping[str, float | str]) -> str | Sequence[str]:
    if isinstance(budget, Mapping):
        return [f"{resource}={amount}" for resource, amount in budget.items()]
    if not isinstance(budget, str | Sequence):
        raise UsageError(f"a budget is text such as 'flops=0.46' or a dict, not {budget!r}")
    return budget


def _criterion(text: str) -> Criterion:
    rows = extended(CRITERIA, "prunec.criteria")
    made: Criterion = parse(text, rows, "criterion")
    return made


def _solver(text: str) -> Solver:
    made: Solver = parse(text, extended(SOLVERS, "prunec.solvers"), "solver")
    return made


def _data(data: DataSpec | str | None) -> DataSpec | None:
    if isinstance(data, str | Path):
        return DataSpec(str(data))
    if data is not None and not isinstance(data, DataSpec):
        raise UsageError(
            f"data is a path, 'module:function' or a prunec.DataSpec, not a {type(data).__name__}"
        )
    return data


def _shapes(shapes: Shapes | None) -> dict[str, tuple[int, ...]]:
    return {name: tuple(int(n) for n in shape) for name, shape in (shapes or {}).items()}
