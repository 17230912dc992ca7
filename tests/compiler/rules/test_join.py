from __future__ import annotations

import pytest
from sites import Ran, labels, run, run_on

from prunec.compiler.freedom import Freedom
from prunec.compiler.labels import Coupler
from prunec.compiler.rules.join import RULES

SHAPE = (2, 4, 3)


def decoupled(op: str, *shapes: tuple[int, ...], **options: object) -> Ran:
    c = Coupler(Freedom(decouple=True))
    c.node = "node"
    return run_on(c, op, [labels(c, *s) for s in shapes], [shapes[0]], **options)


@pytest.mark.parametrize("op", sorted(RULES))
def test_operands_and_result_are_tied_unless_asked(op: str) -> None:
    ran = run(op, [SHAPE, SHAPE], [SHAPE])
    assert ran.tied(ran.ins[0][1], ran.ins[1][1])
    assert ran.tied(ran.outs[0][1], ran.ins[0][1])
    assert ran.c.joined == []


@pytest.mark.parametrize("op", sorted(RULES))
def test_decoupled_operands_and_result_have_labels_of_their_own(op: str) -> None:
    ran = decoupled(op, SHAPE, SHAPE)
    assert ran.apart([ran.outs[0][1], ran.ins[0][1], ran.ins[1][1]])
    assert [(j.node, len(j.parts)) for j in ran.c.joined] == [("node", 2)] * 3


def test_a_constant_operand_is_tied_even_then() -> None:
    ran = decoupled("Add", SHAPE, SHAPE, weights=[1])
    assert ran.tied(ran.ins[0][1], ran.ins[1][1])
    assert ran.tied(ran.outs[0][1], ran.ins[0][1])


def test_integers_are_tied_even_then() -> None:
    ran = decoupled("Add", SHAPE, SHAPE, integers={0: None, 1: None})
    assert ran.tied(ran.outs[0][1], ran.ins[0][1])


def test_what_stands_in_a_body_is_tied_even_then() -> None:
    c = Coupler(Freedom(decouple=True))
    c.inside = 1
    ran = run_on(c, "Add", [labels(c, *SHAPE), labels(c, *SHAPE)], [SHAPE])
    assert ran.tied(ran.outs[0][1], ran.ins[0][1])


def test_an_axis_that_one_operand_stretches_over_is_not_its_own() -> None:
    ran = decoupled("Sum", SHAPE, (2, 4, 1), (2, 4, 3))
    assert ran.outs[0][2] is ran.ins[0][2]
    assert ran.tied(ran.outs[0][2], ran.ins[2][2])
    assert ran.apart([ran.outs[0][1], ran.ins[0][1], ran.ins[1][1], ran.ins[2][1]])


def test_axes_are_aligned_from_the_right() -> None:
    ran = decoupled("Add", SHAPE, (4, 3))
    assert ran.outs[0][0] is ran.ins[0][0]
    assert len(ran.c.joined) == 2


def test_operands_with_the_same_channels_have_nothing_to_decouple() -> None:
    c = Coupler(Freedom(decouple=True))
    x = labels(c, *SHAPE)
    ran = run_on(c, "Add", [x, x], [SHAPE])
    assert ran.outs[0][1] is x[1]
    assert c.joined == []
