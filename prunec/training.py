"""The public functions that work on torch modules or train: loaded with torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunec.compiler.errors import MissingDependencyError
from prunec.compiler.plan import Plan
from prunec.compiler.spec import parse
from prunec.frontends import onnx as onnx_frontend
from prunec.given import budget_of, data_of, opened
from prunec.passes.options import Options
from prunec.runtime.compile import (
    Settings,
    plan_path,
)
from prunec.runtime.data import DataSpec
from prunec.runtime.subject import Source
from prunec.tools.plan_file import read_plan

if TYPE_CHECKING:
    import torch

    from prunec.passes.criteria.gate import Gate
    from prunec.passes.masks.masks import Masks
    from prunec.runtime.gates.train import Pruned
    from prunec.runtime.torch_view import TorchView
    from prunec.runtime.training.aware import Aware
    from prunec.runtime.training.finetune import FineTuned
    from prunec.runtime.training.settings import Recipe, TrainSettings


def torch_view(model: Source) -> TorchView:
    """A model as a trainable torch.nn.Module; `to_model()` puts the weights back by name.

    Raises ModelError, naming the node, where an operator cannot be run (If, Loop, Scan). Needs
    torch.
    """
    try:
        from prunec.runtime.torch_view import torch_view as view
    except ImportError as error:
        raise MissingDependencyError(
            "the torch view needs torch; install it with pip install 'prunec[torch]'"
        ) from error
    return view(model)


def apply_to(
    plan: Plan,
    module: torch.nn.Module,
    example_inputs: Any = None,
    *,
    model: Source | None = None,
    weights: Source | None = None,
    in_place: bool = False,
) -> torch.nn.Module:
    """Slice a torch module by a plan: for people with their own training code.

    Returns a copy, unless `in_place`: parameters, buffers and the attributes that tell sizes are
    those of the pruned network. The plan is one for ``prunec.load(module, example_inputs)``, whose
    weights have the names of the module's; for another export give that dense model as `model`, and
    weights are found by their contents. example_inputs, a tensor or a tuple: the sliced module must
    give the outputs of the pruned model for them; without, nothing is run. weights: a pruned model,
    recovered or fine-tuned, whose weights the module gets. Optimizers are left alone: make a new
    one. Needs torch; raises PlanError, VerificationError.
    """
    from prunec.runtime.torch_modules import apply_to as run

    dense = None if model is None else onnx_frontend.load(model)
    slim = None if weights is None else onnx_frontend.load(weights)
    return run(plan, module, example_inputs, model=dense, weights=slim, in_place=in_place)


def finetune(
    model: Source,
    data: DataSpec | str,
    teacher: Source | None = None,
    recipe: Recipe | None = None,
    settings: TrainSettings | None = None,
    *,
    plan: Plan | str | Path | None = None,
    eval_data: DataSpec | str | None = None,
    quantize: str | Aware | None = None,
    output: str | Path | None = None,
) -> FineTuned:
    """Train a model's weights towards a teacher's outputs, by labels, or both.

    recipe: what is learned and which samples are held out; settings: how. plan: of the pruned
    model, where `Recipe.features` names values that lost channels. eval_data: held-out samples
    instead of a share of `data`. quantize: a recipe such as "w4a4", or that with how scales come
    about and when quantisation starts: train the model as its integers compute; the result is
    quantised. output: also write the model there, with its history beside it.
    The result's `model` has the weights of the best epoch; under `torchrun`, in every process.
    Needs torch and accelerate. Raises PrunecError.
    """
    from prunec.runtime.training.settings import Recipe, TrainSettings

    try:
        from prunec.passes.quantize.recipe import parse_recipe
        from prunec.runtime.training.aware import Aware
        from prunec.runtime.training.finetune import Work
        from prunec.runtime.training.finetune import finetune as run
    except ImportError as error:
        raise MissingDependencyError(
            "training needs torch and accelerate; install them with pip install 'prunec[train]'"
        ) from error
    made = plan if plan is None or isinstance(plan, Plan) else read_plan(Path(plan))
    samples = data_of(data)
    assert samples is not None
    work = Work(model, samples, teacher, made, data_of(eval_data))
    aware = Aware(parse_recipe(quantize)) if isinstance(quantize, str) else quantize
    found = run(work, recipe or Recipe(), settings or TrainSettings(), aware=aware)
    if output is not None:
        found.save(Path(output))
    return found


def train(
    model: Source,
    budget: str | Sequence[str] | Mapping[str, float | str],
    data: DataSpec | str,
    by: str | Gate | Masks = "gate",
    *,
    recipe: Recipe | None = None,
    training: TrainSettings | None = None,
    options: Options | None = None,
    settings: Settings | None = None,
    quantize: str | Aware | None = None,
    output: str | Path | None = None,
    save_trained: str | Path | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Pruned:
    """Prune while training: gates or masks close channels until the budget is met.

    by: a row of the components "trained", with options: ``"gate{ramp=0.5}"``,
    ``"masks{schedule=stepwise}"``. recipe, training: what the weights learn, and how, beside the
    dense model's outputs. options: how the solver chooses in the end (align, keep ...). quantize: a
    recipe such as "w4a4", or an `Aware`: round weights and activations while channels close; the
    pruned model is quantised, with the scales of the training. output: also write the pruned model
    there, with the plan beside it; save_trained: the dense model with the trained weights, which
    the plan belongs to. Needs ``prunec[train]``. Raises PrunecError.
    """
    try:
        from prunec.passes.quantize.recipe import parse_recipe
        from prunec.passes.trained import TRAINED
        from prunec.runtime.gates.train import Lesson, Lookout, Targets
        from prunec.runtime.gates.train import train as run
        from prunec.runtime.training.aware import Aware
        from prunec.runtime.training.settings import Recipe, TrainSettings
    except ImportError as error:
        raise MissingDependencyError(
            f"training needs torch and accelerate: pip install 'prunec[train]' ({error})"
        ) from error
    settings = replace(settings or Settings(), data=data_of(data))
    lesson = Lesson(
        by=parse(by, TRAINED, "by") if isinstance(by, str) else by,
        budget=budget_of(budget),
        recipe=recipe or Recipe(),
        training=training or TrainSettings(),
        options=options or Options(),
        settings=settings,
        aware=Aware(parse_recipe(quantize)) if isinstance(quantize, str) else quantize,
    )
    out = None if output is None else Path(output)
    beside = None if out is None else plan_path(out)
    kept = None if save_trained is None else Path(save_trained)
    return run(opened(model, settings), lesson, Targets(out, beside, kept), Lookout(progress))
