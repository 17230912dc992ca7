"""Multiply-accumulates of attention and of fused operators, from shapes, by hand."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import pytest

from prunec.runtime.recount import COUNTERS

CONTRIB = "com.microsoft::"
B, T, S, H, D, DV = 2, 3, 5, 4, 6, 8
PAST = 7

# Operator, shapes of its inputs, of its first output, attributes, figure.
Layer = tuple[str, list[tuple[int, ...]], tuple[int, ...], dict[str, Any], int]
LAYERS: list[Layer] = [
    ("Attention", [(B, T, 24), (B, S, 12), (B, S, 16)], (B, T, 32), {}, B * T * S * H * (D + DV)),
    (
        "Attention",
        [(B, H, T, D), (B, 2, S, D), (B, 2, S, DV), (), (B, 2, PAST, D), (B, 2, PAST, DV)],
        (B, H, T, DV),
        {},
        B * H * T * (S + PAST) * (D + DV),
    ),
    (
        f"{CONTRIB}Attention",
        [(B, T, 9), (9, 80), (80,)],
        (B, T, 32),
        {"qkv_hidden_sizes": [24, 24, 32]},
        B * T * 9 * 80 + B * T * T * H * (D + DV),
    ),
    (
        f"{CONTRIB}Attention",
        [(B, T, 9), (9, 72), (72,), (), (2, B, H, PAST, D)],
        (B, T, 24),
        {},
        B * T * 9 * 72 + B * T * (T + PAST) * H * 2 * D,
    ),
    (
        f"{CONTRIB}MultiHeadAttention",
        [(B, T, 24), (B, S, 24), (B, S, 32), (), (), (), (B, H, PAST, D)],
        (B, T, 32),
        {},
        B * T * (S + PAST) * H * (D + DV),
    ),
    (
        f"{CONTRIB}MultiHeadAttention",
        [(B, T, 24), (B, H, S, D), (B, H, S, D)],
        (B, T, 24),
        {},
        B * T * S * H * 2 * D,
    ),
    (f"{CONTRIB}MultiHeadAttention", [(B, T, H, 3, D)], (B, T, 24), {}, B * T * T * H * 2 * D),
    (
        f"{CONTRIB}GroupQueryAttention",
        [(B, T, 32), (B, T, 16), (B, T, 16), (B, 2, PAST, 8)],
        (B, T, 32),
        {},
        B * T * (T + PAST) * 32 * 2,
    ),
    (f"{CONTRIB}FusedConv", [(2, 4, 8, 8), (6, 4, 3, 3)], (2, 6, 8, 8), {}, 2 * 6 * 64 * 36),
    (f"{CONTRIB}NhwcConv", [(2, 8, 8, 4), (6, 4, 3, 3)], (2, 8, 8, 6), {}, 2 * 6 * 64 * 36),
    (f"{CONTRIB}NhwcFusedConv", [(2, 8, 8, 4), (6, 4, 3, 3)], (2, 8, 8, 6), {}, 2 * 6 * 64 * 36),
    (
        f"{CONTRIB}ConvTransposeWithDynamicPads",
        [(2, 4, 5, 5), (4, 3, 2, 2)],
        (2, 3, 10, 10),
        {},
        2 * 4 * 25 * 3 * 4,
    ),
    (f"{CONTRIB}FusedGemm", [(5, 2), (5, 3)], (2, 3), {"transA": 1}, 2 * 5 * 3),
    (f"{CONTRIB}FusedMatMul", [(2, 4, 5), (5, 3)], (2, 4, 3), {}, 2 * 4 * 5 * 3),
    (
        f"{CONTRIB}FusedMatMul",
        [(5, 2, 4), (2, 5, 3)],
        (2, 4, 3),
        {"transA": 1, "transBatchA": 1},
        2 * 4 * 5 * 3,
    ),
    (f"{CONTRIB}FusedMatMulActivation", [(5, 4), (5, 3)], (4, 3), {"transA": 1}, 4 * 5 * 3),
    (f"{CONTRIB}TransposeMatMul", [(4, 5), (3, 5)], (4, 3), {"transB": 1}, 4 * 5 * 3),
    (
        f"{CONTRIB}GatedRelativePositionBias",
        [(2, 3, 24), (24,), (1, 4, 3, 3), (6, 8)],
        (2, 4, 3, 3),
        {},
        2 * 3 * 24 * 8,
    ),
]


@pytest.mark.parametrize(("op", "ins", "out", "attributes", "macs"), LAYERS)
def test_a_counter_agrees_with_its_formula(
    op: str,
    ins: list[tuple[int, ...]],
    out: tuple[int, ...],
    attributes: dict[str, Any],
    macs: int,
) -> None:
    domain, _, name = op.rpartition("::")
    node = ir.Node(domain, name, [], ir.convenience.convert_attributes(attributes))
    assert COUNTERS[op](node, ins, out) == macs
