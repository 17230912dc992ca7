from __future__ import annotations

import onnx_ir as ir
import pytest
from sites import labels, run, site

from prunec.compiler.labels import Coupler
from prunec.compiler.rules import RULES

IMAGE = (2, 6, 8, 8)
PLACES = ir.Value(name="places")


@pytest.mark.parametrize(("op", "boxes"), [("RoiAlign", [(5, 4), (5,)]), ("MaxRoiPool", [(5, 5)])])
def test_regions_pass_the_channels(op: str, boxes: list[tuple[int, ...]]) -> None:
    ran = run(op, [IMAGE, *boxes], [(5, 6, 7, 7)])
    assert ran.outs[0][1] is ran.ins[0][1]
    assert all(ran.frozen(a) for a in (ran.ins[0][0], *ran.ins[0][2:], *ran.ins[1]))


def deformed(groups: int = 1, offsets: int = 1, mask: bool = True, bias: bool = True):
    shapes = [IMAGE, (4, 6 // groups, 3, 3), (2, 18 * offsets, 8, 8)]
    shapes += [(4,) if bias else None, (2, 9 * offsets, 8, 8) if mask else None]
    return run(
        "DeformConv",
        shapes,
        [(2, 4, 8, 8)],
        weights=[1, 3],
        opset=19,
        group=groups,
        offset_group=offsets,
    )


def test_a_deformable_convolution_couples_as_a_convolution() -> None:
    ran = deformed()
    x, w, offset, bias, mask = ran.ins
    assert ran.tied(x[1], w[1])
    assert ran.tied(bias[0], ran.outs[0][1])
    assert all(ran.frozen(a) for a in (*offset, *mask))
    assert ran.c.products[0][0] == 2 * 64 * 9


@pytest.mark.parametrize("options", [{"mask": False}, {"bias": False}])
def test_its_optional_inputs_may_be_absent(options: dict[str, bool]) -> None:
    ran = deformed(**options)
    assert ran.outs[0][1] is ran.ins[1][0]


def test_offset_groups_lose_the_same_position() -> None:
    ran = deformed(offsets=3)
    assert ran.tied(ran.ins[0][1][:2], ran.ins[0][1][2:4])
    assert ran.apart(ran.ins[0][1][:2])


def test_groups_and_offset_groups_meet() -> None:
    ran = deformed(groups=2, offsets=3)
    assert ran.tied(ran.ins[0][1][0], ran.ins[0][1][1:])


def test_unpooling_by_computed_places_freezes_the_channels() -> None:
    ran = run("MaxUnpool", [(2, 6, 4, 4)] * 2, [IMAGE])
    assert ran.frozen(ran.ins[0][1])
    assert ran.frozen(ran.ins[1][1])


def test_unpooling_by_the_places_of_a_pool_passes_the_channels() -> None:
    ir.Node("", "MaxPool", [ir.Value(name="x")], outputs=[ir.Value(name="y"), PLACES])
    shapes = [(2, 6, 4, 4)] * 2 + [(4,)]
    where = site("MaxUnpool", shapes, [IMAGE], constants={2: IMAGE})
    where.node.replace_input_with(1, PLACES)
    c = Coupler()
    ins = [labels(c, *shape) for shape in shapes]
    (out,) = RULES["MaxUnpool"](where, ins, c)
    assert out[1].tolist() == c.find(ins[1][1]).tolist() == ins[0][1].tolist()
    assert [k for k, _ in c.patches[0].elements] == [0, 1]


def test_columns_of_one_channel_leave_together() -> None:
    ran = run("Col2Im", [(2, 24, 16), (2,), (2,)], [(2, 6, 8, 8)])
    rows = ran.ins[0][1].reshape(6, 4)
    assert ran.tied(rows, rows[:, :1])
    assert ran.apart(ran.outs[0][1])
    assert ran.frozen(ran.ins[0][2])


@pytest.mark.parametrize(
    ("opset", "options"),
    [(17, {"axis": 1}), (20, {"constants": {2: 1}})],
)
def test_a_fourier_transform_freezes_its_axis(opset: int, options: dict) -> None:
    shapes = [(2, 8, 6, 1), None, ()][: 3 if opset == 20 else 1]
    ran = run("DFT", shapes, [(2, 5, 6, 2)], opset=opset, **options)
    assert ran.frozen(ran.ins[0][1])
    assert ran.outs[0][2] is ran.ins[0][2]


def test_a_fourier_transform_runs_over_the_last_axis_but_one_by_default() -> None:
    ran = run("DFT", [(2, 6, 8, 1)], [(2, 6, 8, 2)], opset=20)
    assert ran.frozen(ran.ins[0][2])
    assert ran.outs[0][1] is ran.ins[0][1]


def test_a_short_time_fourier_transform_keeps_the_batch() -> None:
    ran = run("STFT", [(2, 64, 1), (), (16,)], [(2, 7, 9, 2)])
    assert ran.outs[0][0] is ran.ins[0][0]
    assert ran.frozen(ran.ins[0][1])
    assert ran.frozen(ran.ins[2][0])
