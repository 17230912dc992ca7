"""How tables name an operator."""

from __future__ import annotations

import onnx_ir as ir


def op_key(node: ir.Node) -> str:
    """The op type of the default domain, "domain::OpType" of others.

    onnx-ir writes the default domain's other name, ai.onnx, as "".
    """
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type
