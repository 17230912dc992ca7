from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from sites import labels, run, site

from prunec.compiler.labels import Coupler
from prunec.compiler.rules import RULES

MICROSOFT = "com.microsoft::"
IMAGE = (2, 4, 8, 8)
ROUND: list[tuple[int, ...]] = [(), ()]  # scale and zero point of a whole tensor


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_two_branches_meet(op: str) -> None:
    ran = run(MICROSOFT + op, [IMAGE, *ROUND, (4, 1, 1), *ROUND, *ROUND], [IMAGE])
    assert ran.tied(ran.ins[0][1], ran.ins[3][0])
    assert ran.c.zeros == {("node", 0): "i7"}
    assert ("node", 0) not in ran.c.auxiliary
    assert len(ran.c.auxiliary) == 6


def test_where_ties_its_condition_too() -> None:
    ran = run(MICROSOFT + "QLinearWhere", [IMAGE, IMAGE, *ROUND, IMAGE, *ROUND, *ROUND], [IMAGE])
    assert ran.tied(ran.ins[0][1], ran.ins[1][1])
    assert ran.tied(ran.ins[0][1], ran.ins[4][1])
    assert ran.c.zeros == {("node", 0): "i8"}


@pytest.mark.parametrize("op", ["QLinearLeakyRelu", "QLinearSigmoid"])
def test_activations_pass_channels(op: str) -> None:
    ran = run(MICROSOFT + op, [IMAGE, *ROUND, *ROUND], [IMAGE])
    assert ran.outs[0] == ran.ins[0]
    assert ran.c.zeros == {("node", 0): "i4"}


@pytest.mark.parametrize(("opset", "frozen"), [(13, [1]), (11, [1, 2, 3])])
def test_a_softmax_freezes_what_it_runs_over(opset: int, frozen: list[int]) -> None:
    where = site(MICROSOFT + "QLinearSoftmax", [IMAGE, *ROUND, *ROUND], [IMAGE], axis=1)
    where.node.attributes["opset"] = ir.AttrInt64("opset", opset)
    c = Coupler()
    x = labels(c, *IMAGE)
    RULES[MICROSOFT + "QLinearSoftmax"](where, [x, (), (), (), ()], c)
    assert [k for k in range(4) if not c.find(x[k]).any()] == frozen


@pytest.mark.parametrize("op", ["QLinearAveragePool", "QLinearGlobalAveragePool"])
@pytest.mark.parametrize("channels_last", [0, 1])
def test_pools_pass_channels(op: str, channels_last: int) -> None:
    out = (2, 1, 1, 8) if channels_last else (2, 4, 1, 1)
    ran = run(MICROSOFT + op, [IMAGE, *ROUND, *ROUND], [out], channels_last=channels_last)
    channel = 3 if channels_last else 1
    assert ran.outs[0][channel] is ran.ins[0][channel]
    assert [k for k in range(1, 4) if not ran.frozen(ran.ins[0][k])] == [channel]


def test_a_max_pool_with_channels_last_keeps_its_zero() -> None:
    ran = run(MICROSOFT + "NhwcMaxPool", [(2, 8, 8, 4)], [(2, 4, 4, 4)], integers={0: "z"})
    assert ran.outs[0][3] is ran.ins[0][3]
    assert ran.c.zeros == {}


def test_concat_joins_every_third_input() -> None:
    shapes = [*ROUND, IMAGE, *ROUND, (2, 6, 8, 8), *ROUND]
    ran = run(MICROSOFT + "QLinearConcat", shapes, [(2, 10, 8, 8)], axis=1)
    assert np.array_equal(ran.outs[0][1], np.concatenate([ran.ins[2][1], ran.ins[5][1]]))
    assert ran.tied(ran.ins[2][2], ran.ins[5][2])
    assert ran.c.zeros == {("node", 0): "i1"}
