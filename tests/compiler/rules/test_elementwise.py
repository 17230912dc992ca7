from __future__ import annotations

import numpy as np
import pytest
from sites import run

from prunec.compiler.rules.elementwise import RULES, elementwise, first_input

EVERYWHERE = sorted(op for op, rule in RULES.items() if rule is elementwise)
FIRST = sorted(op for op, rule in RULES.items() if rule is first_input)


@pytest.mark.parametrize("op", EVERYWHERE)
def test_inputs_of_equal_shape_are_tied(op: str) -> None:
    ran = run(op, [(2, 4), (2, 4)], [(2, 4)])
    assert ran.tied(ran.ins[0][1], ran.ins[1][1])
    assert ran.tied(ran.outs[0][1], ran.ins[0][1])


@pytest.mark.parametrize("op", FIRST)
def test_parameters_of_an_op_are_no_channels(op: str) -> None:
    ran = run(op, [(2, 4), ()], [(2, 4)])
    assert ran.outs[0] is ran.ins[0]
    assert ("node", 1) in ran.c.auxiliary


def test_a_unit_axis_stretches_without_a_tie() -> None:
    ran = run("Mul", [(2, 4, 3), (2, 1, 1)], [(2, 4, 3)])
    assert ran.apart(ran.outs[0][1])
    assert ran.outs[0][1] is ran.ins[0][1]


def test_a_vector_aligns_from_the_right() -> None:
    ran = run("Add", [(2, 4, 3), (4, 1)], [(2, 4, 3)])
    assert ran.tied(ran.ins[1][0], ran.ins[0][1])


def test_three_inputs_are_tied_to_each_other() -> None:
    ran = run("Sum", [(4,), (4,), (4,)], [(4,)])
    assert ran.tied(ran.ins[0][0], ran.ins[2][0])


def test_a_scalar_ties_nothing() -> None:
    assert run("Add", [(4,), ()], [(4,)]).c.ties == []


def test_a_stored_tensor_has_labels_of_its_own() -> None:
    ran = run("Constant", [], [(3, 1)])
    assert ran.apart(ran.outs[0][0])
    assert ran.frozen(ran.outs[0][1])


def test_constant_of_shape_follows_what_it_is_tied_to() -> None:
    ran = run("ConstantOfShape", [(2,)], [(3, 1)], constants={0: [3, 1]})
    (patch,) = ran.c.patches
    assert patch.key == 0
    assert [k for k, _ in patch.elements] == [0]


def test_constant_of_shape_of_data_is_frozen() -> None:
    assert run("ConstantOfShape", [(1,)], [(3,)]).frozen(np.zeros(3, np.int64))


@pytest.mark.parametrize("op", ["Range", "Shape", "Size"])
def test_shape_arithmetic_has_no_channels(op: str) -> None:
    ran = run(op, [(2, 4)], [(2,)])
    assert not ran.outs[0][0].any()
    assert ran.c.ties == []
