"""``prunec train MODEL --budget ... --data TRAIN``: prune while training, by gates or masks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunec.compiler.errors import MissingDependencyError, UsageError
from prunec.compiler.spec import parse
from prunec.tools.finetune import aware_of, recipe_of, told_of, train_settings
from prunec.tools.main_job import add_config, add_model, analyse, beside, check_targets
from prunec.tools.options import (
    CHOOSING,
    COMPONENTS,
    EVALUATION,
    FREEING,
    OUTPUT,
    PLAN_OUT,
    PROVING,
    SAYING,
    Option,
)
from prunec.tools.render import Console
from prunec.tools.settings import choosing_options, run_settings
from prunec.tools.summary import report_blocks, report_document
from prunec.tools.training_options import LEARNING, QUANTISING, SOURCES, TRAINING

if TYPE_CHECKING:
    from prunec.runtime.gates.train import Pruned
    from prunec.runtime.training.history import Epoch

BY = Option(
    "by",
    f"what closes channels while the weights learn, one of {', '.join(COMPONENTS['trained'])}, "
    "with options in braces: gate{ramp=0.5}, masks{schedule=stepwise,statistic=magnitude}",
    metavar="SPEC",
    default="gate",
)
TRAINED_OUT = Option(
    "save_trained",
    "the dense model with its trained weights, which the plan belongs to (default: "
    "MODEL.trained.onnx beside the model)",
    metavar="PATH",
    file=True,
)
# Scores are what is trained; nothing else ranks.
_NOT_HERE = frozenset(
    {
        "score",
        "objective",
        "gamma",
        "max_gap",
        "scores",
        "save_scores",
        "exponent",
        "worth",
        "batch",
    }
)
_NOT_LEARNED = frozenset({"teacher", "features", "feature_weight", "plan"})
_NOT_READ = frozenset({"validation", "eval_data"})
_TWICE = frozenset({"threads", "provider", "min_speedup"})  # of TRAINING, or of what runs models
OPTIONS: Mapping[str, tuple[Option, ...]] = {
    "choosing": (BY, *(o for o in CHOOSING if o.key not in _NOT_HERE)),
    "analysis": tuple(o for o in FREEING if o.key not in ("decouple", "kernel_positions")),
    "data": tuple(o for o in SOURCES if o.key not in _NOT_READ),
    "what is learned": tuple(o for o in LEARNING if o.key not in _NOT_LEARNED),
    "training": TRAINING,
    "quantised training": QUANTISING,
    "accuracy": EVALUATION,
    "proof and measurement": tuple(o for o in PROVING if o.key not in _TWICE),
    "output": (OUTPUT, PLAN_OUT, TRAINED_OUT, *SAYING),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_model(parser)
    add_config(parser)


def run(space: argparse.Namespace, console: Console) -> int:
    """Train, choose, rewrite, prove, write."""
    if not space.budget:
        raise UsageError("--budget is required, for example --budget flops=0.5")
    if not space.data:
        raise UsageError("--data is required: the samples to train with")
    _defaults(space)
    model = Path(space.model)
    from prunec.passes.trained import TRAINED

    modules = _runtime()
    out = Path(space.output) if space.output else beside(model, ".pruned.onnx")
    trained = Path(space.save_trained) if space.save_trained else beside(model, ".trained.onnx")
    plan_out = Path(space.plan_out) if space.plan_out else _plan_path(out)
    check_targets(model, out, plan_out, trained)
    lesson = modules.Lesson(
        by=parse(space.by, TRAINED, "--by"),
        budget=space.budget,
        recipe=recipe_of(space),
        training=train_settings(space),
        options=choosing_options(space, space.overrides),
        settings=replace(
            run_settings(space), threads=space.threads or 1, batch=None, quantize=None
        ),
        aware=aware_of(space),
    )
    first = _is_first()
    console.quiet |= not first
    console.json &= first
    console.watch(out, plan_out)
    with console.progress() as progress:
        subject = analyse(model, lesson.settings, progress)
        found: Pruned = modules.train(
            subject,
            lesson,
            modules.Targets(out, plan_out, trained),
            modules.Lookout(progress, lambda epoch: _say(epoch, console)),
        )
    if found.result is None:
        return 0
    result = found.result
    console.result(
        lambda: {
            **report_document(model, result, out, plan_out),
            "trained": str(trained),
            "training": {**dict(found.record), **found.history.to_dict()},
            **told_of(lesson.aware),
        },
        [_reached(found), *report_blocks(result, out, plan_out), f"trained  {trained}"],
    )
    return 0


def _defaults(space: argparse.Namespace) -> None:
    """Options of choosing that this command does not have."""
    own = {o.key for options in OPTIONS.values() for o in options}
    for option in CHOOSING:
        if option.key not in own:
            vars(space).setdefault(option.key, () if option.many else option.default)
    for key, value in (("validation", 0.0), ("features", ()), ("feature_weight", 1.0)):
        vars(space).setdefault(key, value)


def _is_first() -> bool:
    from prunec.runtime.training.machine import is_first

    return is_first()


def _plan_path(out: Path) -> Path:
    from prunec.runtime.compile import plan_path

    return plan_path(out)


def _runtime() -> Any:
    """What needs torch. Raises MissingDependencyError."""
    try:
        from prunec.runtime.gates import train
    except ImportError as error:
        raise MissingDependencyError(
            f"training needs torch and accelerate: pip install 'prunec[train]' ({error})"
        ) from error
    return train


def _reached(found: Pruned) -> str:
    """What the training left, before the solver was asked."""
    (about,) = found.record.values()
    shares = ", ".join(f"{name} {share:.2%}" for name, share in about["reached"].items())
    return f"reached  {shares} of the budget, {about['open']} channels, in {about['steps']} steps"


def _say(epoch: Epoch, console: Console) -> None:
    from prunec.runtime.training.history import line

    if not console.quiet:
        print(line(epoch), file=sys.stderr, flush=True)
