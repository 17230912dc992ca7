"""What the command line says, as the values that the passes and the runtime take."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

from prunec.compiler.errors import UsageError

if TYPE_CHECKING:
    from prunec.passes.options import Options, Override
    from prunec.runtime.compile import Settings


def choosing_options(space: argparse.Namespace, overrides: Mapping[str, Override]) -> Options:
    """How to choose. Raises UsageError for unknown components."""
    from prunec.compiler.extensions import extended
    from prunec.compiler.multipliers import read_multipliers
    from prunec.compiler.spec import parse
    from prunec.passes.criteria import CRITERIA
    from prunec.passes.options import Options
    from prunec.passes.pairwise.specs import parse_objective, parse_solver
    from prunec.passes.worth import WORTHS

    objective = parse_objective(space.objective)
    return Options(
        criterion=parse(space.score, extended(CRITERIA, "prunec.criteria"), "criterion"),
        solver=parse_solver(space.solver, objective),
        objective=objective,
        align=space.align,
        min_keep=space.min_keep,
        keep=tuple(space.keep),
        only=tuple(space.only),
        overrides=overrides,
        max_gap=space.max_gap,
        exponent=space.exponent,
        worth=parse(space.worth, WORTHS, "worth"),
        multipliers=read_multipliers(space.edge_multipliers) if space.edge_multipliers else {},
        gamma=space.gamma if vars(space).get("kernel_positions") == "per-filter" else None,
    )


def run_settings(space: argparse.Namespace) -> Settings:
    """What to do besides choosing; options that a command does not have keep their defaults."""
    from prunec.compiler.freedom import Freedom, frees_kernels
    from prunec.frontends.bindings import parse_shapes
    from prunec.runtime.compile import Settings
    from prunec.runtime.data import DataSpec

    known = vars(space)
    data = None
    if known.get("data") is not None:
        data = DataSpec(
            path=space.data,
            mean=space.mean or (),
            std=space.std or (),
            resize=space.resize,
            limit=space.samples,
        )
    elif any(known.get(key) is not None for key in ("mean", "std", "resize", "samples")):
        raise UsageError("--mean, --std, --resize and --samples need --data")
    direct = (
        "verify", "bench", "min_speedup", "strict", "provider", "threads", "profile",
        "latency_model", "batch",
    )  # fmt: skip
    return Settings(
        shapes=parse_shapes(space.shape),
        data=data,
        rules=tuple(known.get("rules") or ()),
        freedom=Freedom(
            **{f.name: bool(known.get(f.name)) for f in fields(Freedom) if f.name != "kernels"},
            kernels=frees_kernels(known.get("kernel_positions") or "none"),
        ),
        **{key: known[key] for key in direct if key in known},
    )


def components_help() -> str:
    """Every criterion and solver with its options, their defaults and what it does."""
    from prunec.compiler.spec import describe
    from prunec.passes.criteria import CRITERIA
    from prunec.passes.pairwise import OBJECTIVES, PAIRWISE_SOLVERS
    from prunec.passes.solvers import SOLVERS
    from prunec.passes.worth import WORTHS

    parts = (
        ("criteria (--score)", CRITERIA),
        ("objectives (--objective)", OBJECTIVES),
        ("solvers (--solver)", SOLVERS),
        ("solvers of --objective pairwise (--solver)", PAIRWISE_SOLVERS),
        ("worths (--worth)", WORTHS),
    )
    return "\n\n".join(
        f"{title}:\n" + "\n".join(f"  {line}" for line in describe(table).splitlines())
        for title, table in parts
    )
