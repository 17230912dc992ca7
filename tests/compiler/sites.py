"""One node with hand-made labels: what rule tests run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from prunec.compiler.encoding import Zero
from prunec.compiler.factors import settle
from prunec.compiler.labels import AxisLabels, Coupler
from prunec.compiler.rules import RULES
from prunec.compiler.site import Site

Shape = tuple[int, ...]


@dataclass(eq=False)
class Ran:
    """Inputs, outputs and the coupler after one rule."""

    site: Site
    ins: list[AxisLabels]
    outs: Sequence[AxisLabels]
    c: Coupler

    def frozen(self, labels: Any) -> bool:
        return not self.c.find(np.asarray(labels)).any()

    def tied(self, left: Any, right: Any) -> bool:
        """Equal, element by element, and removable."""
        a, b = np.broadcast_arrays(self.c.find(np.asarray(left)), self.c.find(np.asarray(right)))
        return bool(a.all()) and np.array_equal(a, b)

    def apart(self, labels: Any) -> bool:
        """All different from each other."""
        roots = self.c.find(np.asarray(labels)).reshape(-1)
        return len(set(roots.tolist())) == len(roots)


def site(
    op: str,
    shapes: Sequence[Shape | None],
    outs: Sequence[Shape],
    *,
    constants: Mapping[int, Any] | None = None,
    weights: Sequence[int] = (),
    integers: Mapping[int, str | None] | None = None,
    opset: int = 17,
    **attributes: Any,
) -> Site:
    """A node; a shape of None is an absent optional input, `weights` are stored inputs.

    integers: inputs that are no floats, with the name of the value that is their zero point ("" for
    0, None where it is not known). Input k is named `ik`, output k `ok`.
    """
    known = {k: np.asarray(v) for k, v in (constants or {}).items()}
    inputs = [None if s is None else ir.Value(name=f"i{k}") for k, s in enumerate(shapes)]
    domain, _, op_type = op.rpartition("::")
    node = ir.Node(
        domain,
        op_type,
        inputs,
        ir.convenience.convert_attributes(attributes),
        num_outputs=len(outs),
        name="node",
    )
    for k, value in enumerate(node.outputs):
        value.name = f"o{k}"
    return Site(
        node=node,
        opset=opset,
        in_shapes=tuple(s or () for s in shapes),
        out_shapes=tuple(outs),
        constants=tuple(known.get(k) for k in range(len(shapes))),
        weights=tuple(k in weights or k in known for k in range(len(shapes))),
        floats=tuple(k not in (integers or {}) for k in range(len(shapes))),
        zeros=tuple(
            None if (name := (integers or {}).get(k)) is None else Zero(name, None)
            for k in range(len(shapes))
        ),
    )


def run(op: str, shapes: Sequence[Shape | None], outs: Sequence[Shape], **options: Any) -> Ran:
    """Apply the rule of `op` to fresh labels (axes of size 1 are frozen), and settle it."""
    c = Coupler()
    c.node = "node"
    ins = [labels(c, *(s or ())) for s in shapes]
    return run_on(c, op, ins, outs, shapes=shapes, **options)


def run_on(
    c: Coupler,
    op: str,
    ins: list[AxisLabels],
    outs: Sequence[Shape],
    shapes: Sequence[Shape | None] | None = None,
    **options: Any,
) -> Ran:
    """The same on labels that exist already."""
    own = shapes or [tuple(len(a) for a in x) for x in ins]
    where = site(op, own, outs, **options)
    results = RULES[op](where, ins, c)
    for axes, shape in zip(results, outs, strict=False):
        assert tuple(len(a) for a in axes) == tuple(shape), (op, shape)
    settle(c)
    return Ran(where, ins, results, c)


def labels(c: Coupler, *sizes: int) -> AxisLabels:
    return tuple(c.fresh(n) if n > 1 else c.frozen(n) for n in sizes)
