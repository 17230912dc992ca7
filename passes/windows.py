"""Convolutions whose kernels lost positions: pads, dilations and size that say the same."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.hypergraph import WindowPatch


def mend_window(node: ir.Node, patch: WindowPatch, mask: NDArray[np.bool_]) -> None:
    """Write the attributes under which the kept positions read what they read before."""
    kept = [np.flatnonzero(mask[groups]) for groups in patch.axes]
    if all(len(own) == len(groups) for own, groups in zip(kept, patch.axes, strict=True)):
        return
    pads, dilations = [], []
    for own, groups, (before, after), dilation in zip(
        kept, patch.axes, patch.pads, patch.dilations, strict=True
    ):
        step = int(own[1] - own[0]) if len(own) > 1 else 1
        assert (np.diff(own) == step).all(), (node.name, own)
        pads.append((before - own[0] * dilation, after - (len(groups) - 1 - own[-1]) * dilation))
        dilations.append(dilation * step)
    assert np.min(pads) >= 0, (node.name, pads)
    numbers = {
        "kernel_shape": [len(own) for own in kept],
        "pads": [int(pad) for side in zip(*pads, strict=True) for pad in side],
        "dilations": dilations,
    }
    for name, value in numbers.items():
        node.attributes[name] = ir.AttrInt64s(name, value)
    node.attributes.pop("auto_pad", None)
