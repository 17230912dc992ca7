"""``prunec finetune MODEL --teacher DENSE --data TRAIN``: accuracy back after pruning."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunec.compiler.errors import MissingDependencyError, OutputError, UsageError
from prunec.compiler.spec import parse
from prunec.tools.main_job import add_config, add_model, beside, check_targets
from prunec.tools.options import SAYING, Option
from prunec.tools.render import Block, Console, Table
from prunec.tools.training_options import LEARNING, QUANTISING, SOURCES, TRAINING

if TYPE_CHECKING:
    from prunec.runtime.data import DataSpec
    from prunec.runtime.training.aware import Aware
    from prunec.runtime.training.finetune import FineTuned, Work
    from prunec.runtime.training.history import Epoch, History
    from prunec.runtime.training.settings import Recipe, TrainSettings

OPTIONS = {
    "data": SOURCES,
    "what is learned": LEARNING,
    "training": TRAINING,
    "quantised training": QUANTISING,
    "output": (
        Option(
            "output",
            "the trained model (default: MODEL.finetuned.onnx); its history lies beside it",
            metavar="PATH",
            short="-o",
            file=True,
        ),
        Option(
            "plot", "draw the loss into *.history.png (needs matplotlib)", bool, default=True
        ),
        *SAYING,
    ),
}  # fmt: skip
DIVERGED = 1


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_model(parser)
    add_config(parser)


def run(space: argparse.Namespace, console: Console) -> int:
    """Train, write, say; 1 where training diverged after it had made the model better."""
    if not space.data:
        raise UsageError("--data is required: the samples to train with")
    if not space.teacher and space.labels == "none":
        raise UsageError("--labels none needs a --teacher")
    if space.features and not space.teacher:
        raise UsageError("--features needs a --teacher")
    model = Path(space.model)
    out = Path(space.output) if space.output else beside(model, ".finetuned.onnx")
    settings, recipe, work = train_settings(space), recipe_of(space), _work(space)
    aware = aware_of(space)
    finetune, Watcher, files = _runtime()
    targets = [out, *files(out)]
    check_targets(model, *targets)
    if space.teacher and out.resolve() == Path(space.teacher).resolve():
        raise OutputError(f"{out}: would overwrite the teacher")
    first = _is_first()
    console.quiet |= not first
    console.json &= first
    console.watch(*targets)
    with console.progress() as progress:
        watcher = Watcher(progress, lambda epoch: _say(epoch, console))
        found: FineTuned = finetune(work, recipe, settings, watcher, aware)
        progress("writing")
        draw, missing = _drawer() if space.plot else (None, "")
        found.save(out, draw)
    console.result(
        lambda: _document(found, model, out, recipe, settings) | told_of(aware),
        [_table(found.history), *found.notes, *([missing] if missing else []), f"model  {out}"],
    )
    if found.diverged is not None and first:
        print(f"prunec: {found.diverged}; {out} holds them", file=sys.stderr)
    return 0 if found.diverged is None else DIVERGED


def _runtime() -> tuple[Any, Any, Any]:
    """What needs torch. Raises MissingDependencyError."""
    try:
        from prunec.runtime.training.finetune import Watcher, beside, finetune
    except ImportError as error:
        raise MissingDependencyError(
            f"training needs torch and accelerate: pip install 'prunec[train]' ({error})"
        ) from error
    return finetune, Watcher, beside


def _is_first() -> bool:
    from prunec.runtime.training.machine import is_first

    return is_first()


def train_settings(space: argparse.Namespace) -> TrainSettings:
    """How to train, from the options of `TRAINING`. Raises UsageError."""
    from prunec.runtime.training.settings import OPTIMIZERS, TrainSettings

    same = (
        "epochs", "steps", "batch", "accumulate", "learning_rate", "warmup", "clip", "ema",
        "freeze_norms", "precision", "seed", "device", "threads", "checkpoint_steps",
    )  # fmt: skip
    return TrainSettings(
        optimizer=parse(space.optimizer, OPTIMIZERS, "optimizer"),
        schedule=space.lr_schedule,
        checkpoint=None if space.checkpoint is None else Path(space.checkpoint),
        **{key: getattr(space, key) for key in same},
    )


def recipe_of(space: argparse.Namespace) -> Recipe:
    """What is learned, from the options of `LEARNING` and `SOURCES`. Raises UsageError."""
    from prunec.runtime.training.settings import Recipe

    same = (
        "labels", "alpha", "temperature", "output_loss", "smoothing", "feature_weight", "augment",
        "validation", "cache", "memory", "workers",
    )  # fmt: skip
    return Recipe(
        features=tuple(space.features),
        buffer=space.shuffle_buffer,
        **{key: getattr(space, key) for key in same},
    )


def aware_of(space: argparse.Namespace) -> Aware | None:
    """How the model is quantised while it is trained, or None. Raises UsageError."""
    if space.quantize is None:
        return None
    from prunec.passes.quantize.recipe import parse_recipe
    from prunec.runtime.training.aware import Aware
    from prunec.runtime.training.scales import SCALES, STARTS

    recipe = parse_recipe(space.quantize)
    return Aware(
        replace(recipe, exclude=(*recipe.exclude, *space.quantize_exclude)),
        scales=parse(space.quantize_scales, SCALES, "scales"),
        start=parse(space.quantize_start, STARTS, "start"),
        ends=space.quantize_ends or None,
        sums=space.quantize_sums or None,
        samples=space.quantize_samples,
    )


def told_of(aware: Aware | None) -> dict[str, Any]:
    """What `aware_of` chose, for --json."""
    if aware is None:
        return {}
    from prunec.compiler.spec import render

    told: dict[str, Any] = {"recipe": str(aware.recipe), "exclude": list(aware.recipe.exclude)}
    told |= {"scales": render(aware.scales), "start": render(aware.start)}
    return {"quantize": told | {k: getattr(aware, k) for k in ("ends", "sums", "samples")}}


def _work(space: argparse.Namespace) -> Work:
    from prunec.runtime.data import DataSpec

    data = DataSpec(space.data, space.mean or (), space.std or (), space.resize, space.samples)
    other: DataSpec | None = None
    if space.eval_data:
        other = replace(data, path=space.eval_data, limit=None)
    return _work_of(space, data, other)


def _work_of(space: argparse.Namespace, data: DataSpec, other: DataSpec | None) -> Work:
    from prunec.runtime.training.finetune import Work
    from prunec.tools.plan_file import read_plan

    plan = None if space.plan is None else read_plan(Path(space.plan))
    return Work(Path(space.model), data, space.teacher and Path(space.teacher), plan, other)


def _say(epoch: Epoch, console: Console) -> None:
    from prunec.runtime.training.history import line

    if not console.quiet:
        print(line(epoch), file=sys.stderr, flush=True)


def _drawer() -> tuple[Any, str]:
    """What draws the loss, or why nothing does: weights are worth more than their picture."""
    try:
        from prunec.tools.curve import draw, require

        require()
    except MissingDependencyError as error:
        return None, f"no plot: {error}"
    return draw, ""


def _document(
    found: FineTuned, model: Path, out: Path, recipe: Recipe, settings: TrainSettings
) -> dict[str, Any]:
    from dataclasses import asdict

    from prunec.compiler.spec import render

    how = {**asdict(settings), "optimizer": render(settings.optimizer)}
    how["learning_rate"] = settings.rate
    how["checkpoint"] = None if settings.checkpoint is None else str(settings.checkpoint)
    return {
        "model": str(model),
        "output": str(out),
        "labels": found.labelled,
        "notes": list(found.notes),
        "diverged": found.diverged is not None,
        "recipe": asdict(recipe),
        "training": how,
        **found.history.to_dict(),
    }


def _table(history: History) -> Block:
    """Epochs as rows; the best is marked."""
    judged = [e.score for e in history.epochs if e.score is not None]
    labelled = any(score.top1 is not None for score in judged)
    columns = ["epoch", "steps", "loss"]
    columns += ["held-out loss"] if judged else []
    columns += ["top-1"] if labelled else []
    rows = []
    for epoch in history.epochs:
        score = epoch.score
        row = [str(epoch.number), str(epoch.step), f"{epoch.loss:.4g}" if epoch.terms else "-"]
        if judged:
            row.append("-" if score is None else f"{score.loss:.4g}")
        if labelled:
            row.append("-" if score is None or score.top1 is None else f"{score.top1:.2%}")
        rows.append([*row, "best" if epoch.number == history.best else ""])
    return Table((*columns, ""), rows, frozenset(columns))
