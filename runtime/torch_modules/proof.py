"""A sliced module must compute what the pruned model computes in onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from prunec.compiler.errors import VerificationError, first_line
from prunec.compiler.plan import Plan
from prunec.runtime.compile import apply_plan
from prunec.runtime.grouped import mask_blocks, regrouped
from prunec.runtime.inputs import Feeds
from prunec.runtime.session import make_session
from prunec.runtime.subject import open_model
from prunec.runtime.torch_modules.arrays import to_array

TOLERANCE = 1e-4  # of the largest output, as for float32 in the oracle


def prove(plan: Plan, model: ir.Model, module: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Run both on the inputs. Raises VerificationError; PlanError for a plan of another model."""
    subject = open_model(model, freedom=plan.freedom, rules=plan.rules)
    pruned = apply_plan(subject, plan)
    if plan.groups:
        pruned = regrouped(subject, plan, mask_blocks(plan, pruned)).model
    session = make_session(pruned)
    given = [x for x in inputs if isinstance(x, Tensor)]
    feeds: Feeds = {
        spec.name: np.asarray(to_array(x)) for spec, x in zip(session.inputs, given, strict=True)
    }
    want = session.run(feeds)
    mode = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            got = [to_array(x) for x in tensors(module(*inputs))]
    except Exception as error:  # the module's code is the user's: anything can come out
        raise VerificationError(
            f"the sliced {type(module).__name__} fails in forward: {first_line(error)}; its code "
            "holds a size that no attribute tells, --keep what that belongs to"
        ) from error
    finally:
        for part, training in mode:
            part.training = training
    if len(got) < len(want):
        raise VerificationError(f"the module gives {len(got)} tensors, the model {len(want)}")
    for name, ours, theirs in zip(session.outputs, got, want, strict=False):
        _compare(name, np.asarray(ours), np.asarray(theirs))


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of nested outputs, in the order in which exporters number them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from tensors(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from tensors(inner)


def _compare(name: str, ours: Any, theirs: Any) -> None:
    if ours.shape != theirs.shape:
        raise VerificationError(
            f"output {name!r}: the sliced module gives {ours.shape}, the pruned model "
            f"{theirs.shape}"
        )
    largest = float(np.abs(theirs).max(initial=1e-12))
    error = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0)) / largest
    if not error <= TOLERANCE:
        raise VerificationError(
            f"output {name!r}: the sliced module differs from the pruned model by {error:.1e} of "
            f"the largest output, more than {TOLERANCE:g}"
        )
