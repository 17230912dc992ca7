from __future__ import annotations

from typing import Any

import pytest
from sites import Ran, run

from prunec.compiler.reasons import Reason
from prunec.compiler.rules import blockwise, qlinear, quantised
from prunec.compiler.site import Unsupported


def matmul(k: int, *tables: tuple[int, ...] | None, bits: int = 4, **options: Any) -> Ran:
    """``(3, k) x (10, blocks of 16)``; tables: scales, zero points, ... of MatMulNBits."""
    packed = (10, -(-k // 16), 16 * bits // 8)
    given = {"K": k, "N": 10, "bits": bits, "block_size": 16, **options}
    shapes = [(3, k), packed, *tables]
    return run("com.microsoft::MatMulNBits", shapes, [(3, 10)], weights=[1], **given)


def test_rows_of_the_weight_are_the_outputs() -> None:
    ran = matmul(64, (10, 4))
    assert ran.outs[0][1] is ran.ins[1][0]
    assert any(freed is ran.ins[1][0] for freed in ran.c.freed)
    assert ran.tied(ran.ins[2][0], ran.ins[1][0])


def test_whole_blocks_of_the_summed_axis_leave() -> None:
    ran = matmul(64, (10, 4))
    assert ran.tied(ran.ins[0][1].reshape(4, 16), ran.ins[1][1][:, None])
    assert ran.tied(ran.ins[2][1], ran.ins[1][1])
    assert ran.apart(ran.ins[1][1])


def test_blocks_whose_zero_points_share_a_byte_leave_together() -> None:
    ran = matmul(64, (10, 4), (10, 2))
    assert ran.tied(ran.ins[1][1].reshape(2, 2), ran.ins[3][1][:, None])


def test_zero_points_of_eight_bits_follow_their_block() -> None:
    ran = matmul(64, (10, 4), (10, 4), bits=8)
    assert ran.tied(ran.ins[1][1], ran.ins[3][1])


def test_a_flat_table_keeps_the_blocks() -> None:
    ran = matmul(64, (40,))
    assert ran.frozen(ran.ins[0][1])
    assert ran.tied(ran.ins[2][0].reshape(10, 4), ran.ins[1][0][:, None])


def test_one_block_keeps_the_summed_axis() -> None:
    ran = matmul(16, (10,))
    assert ran.frozen(ran.ins[0][1])
    assert ran.tied(ran.ins[2][0], ran.ins[1][0])


def test_the_bias_follows_the_rows_and_counts_follow() -> None:
    ran = matmul(64, (10, 4), None, None, (10,))
    assert ran.tied(ran.ins[5][0], ran.ins[1][0])
    assert {patch.key for patch in ran.c.patches} == {"K", "N"}
    ((scale, axes),) = ran.c.products
    assert (scale, [len(a) for a in axes]) == (1, [3, 64, 10])


def test_packed_bits_are_counted_as_elements() -> None:
    encoding = matmul(64, (10, 4)).c.encodings["node", 1]
    assert (encoding.packing, encoding.middle, encoding.scales) == (2, 8, ("i2",))


@pytest.mark.parametrize(
    ("options", "tables"), [({"weight_prepacked": 1}, []), ({}, [None, (64,)])]
)
def test_weights_packed_in_another_way_are_refused(options: Any, tables: Any) -> None:
    with pytest.raises(Unsupported) as error:
        matmul(64, (10, 4), *tables, **options)
    assert error.value.reason is Reason.PACKED_BLOCK


def gather(*tables: tuple[int, ...], **options: Any) -> Ran:
    given = {"block_size": 16, "bits": 4, **options}
    return run("com.microsoft::GatherBlockQuantized", list(tables), [(3, 64)], weights=[0], **given)


def test_columns_of_a_packed_table_leave_by_blocks() -> None:
    ran = gather((9, 32), (3,), (9, 4))
    (_, columns), table, scales = ran.outs[0], ran.ins[0], ran.ins[2]
    assert ran.tied(columns.reshape(32, 2), table[1][:, None])
    assert ran.tied(columns.reshape(4, 16), scales[1][:, None])
    assert ran.frozen(table[0])
    assert ran.frozen(scales[0])


def test_columns_whose_zero_points_share_a_byte_leave_together() -> None:
    ran = gather((9, 32), (3,), (9, 4), (9, 2))
    assert ran.tied(ran.outs[0][1].reshape(2, 32), ran.ins[3][1][:, None])


def test_a_table_with_a_number_in_every_item() -> None:
    ran = gather((9, 64), (3,), (9, 4))
    assert ran.outs[0][1] is ran.ins[0][1]
    assert ran.c.encodings["node", 0].packing == 1


def test_columns_that_are_picked_are_refused() -> None:
    with pytest.raises(Unsupported, match="rows of a table"):
        gather((9, 32), (3,), (9, 4), gather_axis=1, quantize_axis=0)


@pytest.mark.parametrize(
    ("options", "tables"),
    [
        ({"bits": 3}, [(10, 4)]),
        ({"block_size": 0}, [(10, 4)]),
        ({}, [(10, 0)]),
        ({}, [(33,)]),
    ],
)
def test_tables_that_do_not_fit_are_refused(options: Any, tables: Any) -> None:
    with pytest.raises(Unsupported):
        matmul(64, *tables, **options)


@pytest.mark.parametrize(
    "tables", [((9, 30), (3,), (9, 4)), ((9, 0), (3,), (9, 4)), ((9, 32), (3,), (36,))]
)
def test_packed_tables_that_do_not_fit_are_refused(tables: Any) -> None:
    with pytest.raises(Unsupported):
        gather(*tables)


CONTRIB = {**quantised.RULES, **qlinear.RULES, **blockwise.RULES}


@pytest.mark.parametrize("op", sorted(op for op in CONTRIB if "::" in op))
def test_operators_that_no_schema_checks_may_lack_inputs(op: str) -> None:
    """onnxruntime's own operators come as they are: what is missing must not end in a crash."""
    with pytest.raises(Unsupported, match="is missing"):
        run(op, [None], [(2, 4)])
