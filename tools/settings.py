"""What the command line says, as the values that the passes and the runtime take."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from prunec.compiler.errors import UsageError

if TYPE_CHECKING:
    from prunec.passes.grouping import Grouping
    from prunec.passes.options import Options, Override
    from prunec.runtime.compile import Settings
    from prunec.runtime.data import DataSpec


def choosing_options(space: argparse.Namespace, overrides: Mapping[str, Override]) -> Options:
    """How to choose. Raises UsageError for unknown components."""
    from prunec.compiler.extensions import extended
    from prunec.compiler.multipliers import read_multipliers
    from prunec.compiler.spec import parse
    from prunec.passes.criteria import CRITERIA
    from prunec.passes.options import Options
    from prunec.passes.pairwise.specs import parse_objective, parse_solver
    from prunec.passes.schedules import SCHEDULES
    from prunec.passes.worth import parse_worth

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
        worth=parse_worth(space.worth),
        schedule=parse(space.schedule, SCHEDULES, "schedule"),
        multipliers=read_multipliers(space.edge_multipliers) if space.edge_multipliers else {},
        gamma=space.gamma if vars(space).get("kernel_positions") == "per-filter" else None,
        channels=vars(space).get("channels") is not False,
        grouping=grouping_of(space),
    )


def grouping_of(space: argparse.Namespace) -> Grouping:
    """What is said of grouped convolutions; commands without such options say nothing.

    Raises UsageError for what makes no sense, also of a file.
    """
    from prunec.passes.grouping import Grouping
    from prunec.passes.regroup.asked import parse_groups

    known = vars(space)
    if "group_conv" not in known:
        return Grouping()
    return Grouping(
        conv=None if space.group_conv is None else parse_groups(space.group_conv),
        perm=space.group_perm,
        fold=space.group_fold,
        score=space.group_score,
        max_per_group=space.max_per_group,
        min_width=space.min_group_width,
        max_groups=space.max_groups,
        depthwise=space.depthwise,
        detect_groups=space.detect_groups,
        detect_dead=space.detect_dead,
    )


def run_settings(space: argparse.Namespace) -> Settings:
    """What to do besides choosing; options that a command does not have keep their defaults."""
    from prunec.compiler.freedom import Freedom, frees_kernels
    from prunec.frontends.bindings import parse_shapes
    from prunec.runtime.compile import Settings

    known = vars(space)
    direct = (
        "verify", "bench", "min_speedup", "strict", "provider", "threads", "profile",
        "latency_model", "batch", "scores", "save_scores", "recover", "quantize",
    )  # fmt: skip
    data = data_of(space)
    if known.get("recover") not in (None, "auto", "none"):
        from prunec.runtime.recovery.choice import chosen

        chosen(space.recover, data is not None)  # a wrong one is refused before any work is done
    return Settings(
        shapes=parse_shapes(space.shape),
        data=data,
        eval_data=eval_data_of(space),
        metrics=metrics_of(known.get("metric") or ()),
        rules=tuple(known.get("rules") or ()),
        quantize_exclude=tuple(known.get("quantize_exclude") or ()),
        freedom=Freedom(
            **{f.name: bool(known.get(f.name)) for f in fields(Freedom) if f.name != "kernels"},
            kernels=frees_kernels(known.get("kernel_positions") or "none"),
        ),
        **{key: known[key] for key in direct if key in known},
    )


def data_of(space: argparse.Namespace) -> DataSpec | None:
    """What ``--data`` and its company say, or None. Raises UsageError for company alone."""
    from prunec.runtime.data import DataSpec

    known = vars(space)
    if known.get("data") is not None:
        return DataSpec(
            path=space.data,
            mean=space.mean or (),
            std=space.std or (),
            resize=space.resize,
            limit=space.samples,
        )
    judged = known.get("eval_data") is not None
    needing = ("samples",) if judged else ("mean", "std", "resize", "samples")
    if any(known.get(key) is not None for key in needing):
        raise UsageError("--mean, --std, --resize and --samples need --data")
    return None


def eval_data_of(space: argparse.Namespace) -> DataSpec | None:
    """What ``--eval-data`` says, or None; all of its samples."""
    from prunec.runtime.data import DataSpec

    path = vars(space).get("eval_data")
    if path is None:
        return None
    return DataSpec(path, space.mean or (), space.std or (), space.resize)


def metrics_of(texts: Sequence[str]) -> tuple[str, ...]:
    """What ``--metric`` says, repeated or with commas. Raises UsageError for unknown names."""
    names = tuple(name.strip() for text in texts for name in text.split(",") if name.strip())
    if names:
        from prunec.runtime.metrics import check_metrics

        check_metrics(names)
    return names


def components_help() -> str:
    """Every criterion and solver with its options, their defaults and what it does."""
    from prunec.compiler.spec import describe
    from prunec.passes.criteria import CRITERIA
    from prunec.passes.pairwise import OBJECTIVES, PAIRWISE_SOLVERS
    from prunec.passes.recovery import RECOVERIES
    from prunec.passes.regroup.choosers import CHOOSERS
    from prunec.passes.regroup.folds import FOLDS
    from prunec.passes.regroup.permutations import PERMUTATIONS
    from prunec.passes.regroup.scores import KERNEL_SCORES
    from prunec.passes.schedules import SCHEDULES
    from prunec.passes.solvers import SOLVERS
    from prunec.passes.trained import TRAINED
    from prunec.passes.worth import WORTHS

    parts = (
        ("criteria (--score)", CRITERIA),
        ("objectives (--objective)", OBJECTIVES),
        ("solvers (--solver)", SOLVERS),
        ("solvers of --objective pairwise (--solver)", PAIRWISE_SOLVERS),
        ("worths (--worth)", WORTHS),
        ("trained (--by of prunec train)", TRAINED),
        ("schedules (--schedule)", SCHEDULES),
        ("recoveries (--recover)", RECOVERIES),
        ("ways to choose groups (--group-conv)", CHOOSERS),
        ("permutations (--group-perm)", PERMUTATIONS),
        ("folds (--group-fold)", FOLDS),
        ("kernel scores (--group-score)", KERNEL_SCORES),
    )
    return "\n\n".join(
        f"{title}:\n" + "\n".join(f"  {line}" for line in describe(table).splitlines())
        for title, table in parts
    )
