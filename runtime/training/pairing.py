"""Which values of the student answer to which of the teacher."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import attribute
from prunec.compiler.errors import ModelError, UsageError
from prunec.compiler.hypergraph import Axis
from prunec.compiler.ops import op_key
from prunec.compiler.plan import Plan
from prunec.compiler.spec import suggest
from prunec.runtime.inputs import InputSpec
from prunec.runtime.subject import Subject
from prunec.runtime.training.losses import Feature

Shape = Sequence[int | str | None]
Shapes = Mapping[str, tuple[int, ...]]


def paired_outputs(teacher: ir.Model, student: ir.Model) -> list[tuple[str, str]]:
    """Per float output: its logits in the teacher and in the student.

    Raises ModelError where the graphs do not have the same outputs, or none is of floats.
    """
    theirs = {str(v.name): v for v in teacher.graph.outputs}
    own = {str(v.name): v for v in student.graph.outputs}
    if list(theirs) != list(own):
        raise ModelError(
            f"teacher and model have different outputs: {', '.join(theirs)} and {', '.join(own)}"
        )
    pairs = [
        (logits(theirs[name]), logits(value)) for name, value in own.items() if _is_float(value)
    ]
    if not pairs:
        raise ModelError("no output holds floating-point numbers: there is nothing to train")
    return pairs


def own_outputs(student: ir.Model) -> list[tuple[str, str]]:
    """The same for a model that has no teacher."""
    return paired_outputs(student, student)


def _is_float(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype.is_floating_point()


def logits(output: ir.Value) -> str:
    """The name of the value in front of a final Softmax; of the output where there is none."""
    node = output.producer()
    while node is not None and op_key(node) in ("Softmax", "Identity") and node.inputs[0]:
        output = node.inputs[0]
        node = output.producer()
    return str(output.name)


def check_inputs(teacher: Sequence[InputSpec], student: Sequence[InputSpec]) -> None:
    """Raise ModelError unless what feeds the one feeds the other."""
    theirs, own = {s.name: s for s in teacher}, {s.name: s for s in student}
    for name in theirs.keys() ^ own.keys():
        who, other = ("teacher", "model") if name in theirs else ("model", "teacher")
        raise ModelError(f"the {who} has an input {name!r} that the {other} does not have")
    for name, spec in theirs.items():
        if spec.dtype != own[name].dtype or not _alike(spec.shape, own[name].shape):
            raise ModelError(
                f"input {name!r} of the teacher is {spec.describe()}, of the model "
                f"{own[name].describe()}"
            )


def _alike(theirs: Shape | None, own: Shape | None) -> bool:
    """Whether some array fits both; their first axes, of samples, may differ."""
    if theirs is None or own is None:
        return True
    pairs = list(zip(theirs, own, strict=False))[1:]
    return len(theirs) == len(own) and all(
        a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int)
    )


def require_same_groups(teacher: ir.Model, student: ir.Model) -> None:
    """Raise UsageError where convolutions got groups: channels may be in another order since."""
    theirs = {n.name: attribute(n, "group", 1) for n in teacher.graph if op_key(n) == "Conv"}
    for node in student.graph:
        if node.name in theirs and attribute(node, "group", 1) != theirs[node.name]:
            raise UsageError(
                f"{node.name} has other groups than in the teacher, so the channels of --features "
                "may be in another order; give --plan"
            )


def find_features(
    patterns: Iterable[str],
    teacher: Shapes,
    student: Shapes,
    dense: Subject | None,
    plan: Plan | None,
    moved: Mapping[Axis, NDArray[np.int64]] | None = None,
) -> list[Feature]:
    """Values of both graphs whose names match, sliced to what the plan keeps.

    teacher, student: shapes of the values of floats that each graph computes. moved: of axes whose
    channels are in another order since they were sliced, which of them stands where. Raises
    UsageError where a pattern matches nothing that can be compared.
    """
    mask = plan.mask(dense.graph) if plan is not None and dense is not None else None
    found: dict[str, Feature] = {}
    for text in patterns:
        try:
            pattern = re.compile(text)
        except re.error as error:
            raise UsageError(f"--features {text!r} is not a regular expression: {error}") from error
        names = [n for n in student if n in teacher and pattern.search(n)]
        order = moved or {}
        kept = {n: _kept(n, teacher[n], student[n], dense, mask, order) for n in names}
        usable = {n: Feature(n, n, axes) for n, axes in kept.items() if axes is not None}
        if not usable:
            why = (
                "the values that match have other shapes; give --plan"
                if names and plan is None
                else f"no value of both graphs matches{suggest(text, set(student) & set(teacher))}"
            )
            raise UsageError(f"--features {text!r}: {why}")
        found |= usable
    return list(found.values())


def _kept(
    name: str,
    dense: tuple[int, ...],
    pruned: tuple[int, ...],
    subject: Subject | None,
    mask: np.ndarray | None,
    moved: Mapping[Axis, NDArray[np.int64]],
) -> dict[int, tuple[int, ...]] | None:
    """Axis -> positions to take of the dense value; None where the two cannot be compared."""
    if len(dense) != len(pruned):
        return None
    kept: dict[int, tuple[int, ...]] = {}
    for axis, (many, few) in enumerate(zip(dense, pruned, strict=True)):
        take = moved.get((name, axis))
        if many == few:
            if take is not None:
                kept[axis] = tuple(take.tolist())
            continue
        groups = None if subject is None else subject.graph.axes.get((name, axis))
        if groups is None or mask is None or len(groups) != many:
            return None
        positions = np.flatnonzero(mask[groups])
        if len(positions) != few:
            return None
        kept[axis] = tuple((positions if take is None else positions[take]).tolist())
    return kept
