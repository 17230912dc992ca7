"""Additions: operands and result have the same channels, unless `Freedom.decouple` parts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prunec.compiler.labels import AxisLabels, Coupler
from prunec.compiler.rules.contraction import broadcast
from prunec.compiler.site import Rule, Site


def addition(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``a + b + ...`` or ``a - b`` with broadcasting; ONNX Add, Sub, Sum."""
    apart = c.freedom.decouple and not c.inside and _is_of_streams(site)
    out = []
    for axis in range(-max((len(x) for x in ins), default=0), 0):
        present = [x[axis] for x in ins if len(x) >= -axis]
        full = len(present) == len(ins) and len({len(labels) for labels in present}) == 1
        if apart and full and len(present[0]) > 1:
            out.append(c.join(present))
        else:
            out += broadcast([(labels,) for labels in present], c, "element-wise")
    return [tuple(out)]


def _is_of_streams(site: Site) -> bool:
    """Whether each operand is an activation of its own, in which a removed channel is zero."""
    names = [site.name(k) for k in range(len(site.in_shapes))]
    return (
        1 < len(names) == len(set(names))
        and "" not in names
        and all(site.floats)
        and not any(site.weights)
    )


RULES: Mapping[str, Rule] = dict.fromkeys(("Add", "Sub", "Sum"), addition)
