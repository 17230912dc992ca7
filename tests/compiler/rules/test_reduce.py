from __future__ import annotations

import onnx_ir as ir
import pytest
from sites import labels, run, site

from prunec.compiler.labels import Coupler
from prunec.compiler.rules.reduce import EXACT, INEXACT, RULES, spatial
from prunec.compiler.site import Unsupported

IMAGE = (2, 4, 6, 6)
SPATIAL = sorted(op for op, rule in RULES.items() if rule is spatial)


@pytest.mark.parametrize("op", SPATIAL)
def test_channels_pass_and_space_is_frozen(op: str) -> None:
    ran = run(op, [IMAGE], [(2, 4, 3, 3)])
    assert ran.outs[0][1] is ran.ins[0][1]
    assert ran.frozen(ran.ins[0][2])


def test_both_outputs_of_a_max_pool_have_its_channels() -> None:
    ran = run("MaxPool", [IMAGE], [(2, 4, 3, 3), (2, 4, 3, 3)])
    assert ran.outs[1][1] is ran.ins[0][1]


@pytest.mark.parametrize(("reader", "stays"), [("MaxUnpool", False), ("Cast", True)])
def test_indices_of_a_max_pool_count_through_the_channels(reader: str, stays: bool) -> None:
    c = Coupler()
    where = site("MaxPool", [IMAGE], [(2, 4, 3, 3)] * 2)
    pooled, places = where.node.outputs
    pooled.name, places.name = "pooled", "places"
    ir.Node("", reader, [pooled, places] if reader == "MaxUnpool" else [places])
    x = labels(c, *IMAGE)
    RULES["MaxPool"](where, [x], c)
    assert c.find(x[1]).any() != stays


def test_sizes_of_a_resize_follow_the_channels() -> None:
    shapes = [IMAGE, None, None, (4,)]
    ran = run("Resize", shapes, [(2, 4, 12, 12)], constants={3: [2, 4, 12, 12]})
    (patch,) = ran.c.patches
    assert [k for k, _ in patch.elements] == [0, 1]


def test_sizes_of_some_axes_only_are_left_alone() -> None:
    shapes = [IMAGE, None, None, (2,)]
    ran = run("Resize", shapes, [(2, 4, 12, 12)], constants={3: [12, 12]}, axes=[2, 3])
    assert ran.c.patches == []


def test_a_resize_by_data_freezes_all() -> None:
    ran = run("Resize", [IMAGE, None, None, (4,)], [IMAGE])
    assert all(ran.frozen(a) for a in ran.ins[0])


def test_a_resize_of_some_axes_by_data_passes_the_channels() -> None:
    ran = run("Resize", [IMAGE, None, None, (2,)], [IMAGE], axes=[2, 3])
    assert ran.apart(ran.ins[0][1])


def test_resizing_channels_freezes_them() -> None:
    ran = run("Resize", [IMAGE, None, (4,)], [(2, 8, 6, 6)], constants={2: [1.0, 2.0, 1.0, 1.0]})
    assert ran.frozen(ran.ins[0][1])


@pytest.mark.parametrize("op", EXACT.split())
def test_sums_of_activations_may_lose_terms(op: str) -> None:
    ran = run(op, [IMAGE, (1,)], [(2, 1, 6, 6)], constants={1: [1]})
    assert ran.apart(ran.ins[0][1])
    assert any(read is ran.ins[0][1] for read in ran.c.reads)


@pytest.mark.parametrize("op", EXACT.split())
def test_sums_of_weights_may_not(op: str) -> None:
    ran = run(op, [IMAGE, (1,)], [(2, 1, 6, 6)], constants={1: [1]}, weights=[0])
    assert ran.frozen(ran.ins[0][1])


@pytest.mark.parametrize("op", INEXACT.split())
def test_other_reductions_freeze_their_axes(op: str) -> None:
    ran = run(op, [IMAGE], [(2, 6, 6)], axes=[1], keepdims=0, opset=11)
    assert ran.frozen(ran.ins[0][1])
    assert ran.outs[0][1] is ran.ins[0][2]


def test_a_reduction_without_axes_runs_over_all() -> None:
    ran = run("ReduceMax", [IMAGE], [(1, 1, 1, 1)])
    assert all(ran.frozen(a) for a in ran.ins[0])


def test_a_reduction_without_axes_may_be_told_to_do_nothing() -> None:
    ran = run("ReduceMax", [IMAGE], [IMAGE], noop_with_empty_axes=1)
    assert ran.outs[0] is ran.ins[0]


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("keep", [0, 1])
def test_positions_need_the_whole_axis(op: str, keep: int) -> None:
    out = (2, 1, 6, 6) if keep else (2, 6, 6)
    ran = run(op, [IMAGE], [out], axis=1, keepdims=keep)
    assert ran.frozen(ran.ins[0][1])
    assert ran.outs[0][-1] is ran.ins[0][3]


def test_cumulative_sums_freeze_their_axis() -> None:
    ran = run("CumSum", [IMAGE, ()], [IMAGE], constants={1: -3})
    assert ran.frozen(ran.ins[0][1])


def test_cumulative_sums_along_data_are_not_supported() -> None:
    with pytest.raises(Unsupported, match="axis depends on the data"):
        run("CumSum", [IMAGE, ()], [IMAGE])


def test_cumulative_products_freeze_their_axis() -> None:
    ran = run("CumProd", [IMAGE, ()], [IMAGE], constants={1: 1})
    assert ran.frozen(ran.ins[0][1])


def test_top_k_freezes_its_axis_in_both_outputs() -> None:
    ran = run("TopK", [IMAGE, (1,)], [(2, 4, 6, 2)] * 2, constants={1: [2]})
    assert ran.frozen(ran.ins[0][3])
    assert ran.outs[1][1] is ran.ins[0][1]
