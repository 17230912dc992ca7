"""What an inexact node should compute: itself, over the channels that stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Masks = Mapping[str, Mapping[int, Mask]]  # value name -> axis -> kept positions
Store = Callable[[str, NDArray[np.int64]], ir.Value]  # an initializer of a name and contents


def run_over_kept(node: ir.Node, masks: Masks, store: Store) -> None:
    """Replace `node` in its graph by: compact, run, spread.

    Every input loses its removed channels, the node runs on what is left, and every output is
    spread to its dense size again. At removed positions it then holds copies; gating zeroes them.
    """
    before: list[ir.Node] = []
    inputs: list[ir.Value | None] = []
    for position, value in enumerate(node.inputs):
        small = value
        for axis, kept in _own(masks, value).items():
            table = store(f"{node.name}.{position}.{axis}.kept", np.flatnonzero(kept))
            before.append(_gather(small, table, axis, table.name))
            small = before[-1].outputs[0]
        inputs.append(small)
    core = ir.Node(
        node.domain,
        node.op_type,
        inputs,
        list(node.attributes.values()),
        num_outputs=len(node.outputs),
        name=node.name,
    )
    after: list[ir.Node] = []
    spread: list[ir.Value] = []
    for old, result in zip(node.outputs, core.outputs, strict=True):
        full = result
        for axis, kept in _own(masks, old).items():
            full.name = f"{old.name}.{axis}.compact"
            # The rank of a kept position among the kept; removed ones may point anywhere.
            ranks = np.maximum(np.cumsum(kept) - 1, 0)
            table = store(f"{old.name}.{axis}.spread", ranks)
            after.append(_gather(full, table, axis, table.name))
            full = after[-1].outputs[0]
        spread.append(full)
    assert node.graph is not None
    new = [*before, core, *after]
    ir.convenience.replace_nodes_and_values(
        node.graph, node, [node], new, list(node.outputs), spread
    )


def _own(masks: Masks, value: ir.Value | None) -> Mapping[int, Mask]:
    return {} if value is None else masks.get(value.name or "", {})


def _gather(value: ir.Value | None, table: ir.Value, axis: int, name: str | None) -> ir.Node:
    node = ir.Node("", "Gather", [value, table], [ir.AttrInt64("axis", axis)], name=f"{name}.take")
    node.outputs[0].name = f"{name}.taken"
    return node
