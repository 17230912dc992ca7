from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sites import Ran, run

from prunec.compiler.rules.recurrent import GATES
from prunec.compiler.site import Unsupported

T, N, WIDTH, H = 5, 2, 3, 4
OPS = sorted(GATES)


def node(op: str, d: int = 1, *, optional: bool = True, layout: int = 0, **options: Any) -> Ran:
    """A recurrent node with every input, or with the three that must be there."""
    g = GATES[op]
    state = (d, N, H) if layout == 0 else (N, d, H)
    shapes: list[tuple[int, ...] | None] = [
        (T, N, WIDTH) if layout == 0 else (N, T, WIDTH),
        (d, g * H, WIDTH),
        (d, g * H, H),
    ]
    if optional:
        shapes += [(d, 2 * g * H), (N,), state]
    if optional and op == "LSTM":
        shapes += [state, (d, 3 * H)]
    outs = [(T, d, N, H) if layout == 0 else (N, T, d, H), state]
    if op == "LSTM":
        outs.append(state)
    options = {"weights": [1, 2, 3, 7], "hidden_size": H, **options}
    if options["hidden_size"] is None:
        del options["hidden_size"]
    return run(op, shapes, outs, layout=layout, **options)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("d", [1, 2])
def test_a_hidden_unit_is_a_row_of_every_gate_and_a_column_of_the_recurrence(
    op: str, d: int
) -> None:
    ran = node(op, d)
    w, r, b = ran.ins[1:4]
    hidden = r[2]
    assert ran.tied(w[1].reshape(GATES[op], H), hidden)
    assert ran.tied(r[1].reshape(GATES[op], H), hidden)
    assert ran.tied(b[1].reshape(2 * GATES[op], H), hidden)
    assert ran.apart(hidden)


@pytest.mark.parametrize("op", OPS)
def test_states_and_outputs_have_the_hidden_units(op: str) -> None:
    ran = node(op)
    hidden = ran.ins[2][2]
    assert ran.tied(ran.ins[5][2], hidden)
    assert all(ran.tied(out[-1], hidden) for out in ran.outs)


def test_an_lstm_has_a_cell_state_and_peepholes() -> None:
    ran = node("LSTM")
    hidden = ran.ins[2][2]
    assert ran.tied(ran.ins[6][2], hidden)
    assert ran.tied(ran.ins[7][1].reshape(3, H), hidden)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("layout", [0, 1])
def test_time_batch_and_direction_stay(op: str, layout: int) -> None:
    ran = node(op, 2, layout=layout)
    x, h0 = ran.ins[0], ran.ins[5]
    assert all(ran.frozen(labels) for labels in (*x[:2], *h0[:2]))
    assert all(ran.frozen(labels) for out in ran.outs for labels in out[:-1])
    assert ran.apart([*x[2], *h0[2]])


@pytest.mark.parametrize("op", OPS)
def test_the_input_is_summed_over(op: str) -> None:
    ran = node(op)
    assert ran.tied(ran.ins[0][2], ran.ins[1][2])
    assert any(read is ran.ins[0][2] for read in ran.c.reads)


@pytest.mark.parametrize("op", OPS)
def test_stored_rows_make_the_hidden_units(op: str) -> None:
    ran = node(op)
    assert [id(a) for a in ran.c.freed] == [id(ran.ins[1][1]), id(ran.ins[2][1])]
    assert node(op, weights=[]).c.freed == []


@pytest.mark.parametrize("op", OPS)
def test_a_stored_sequence_keeps_its_width(op: str) -> None:
    ran = node(op, weights=[0, 1, 2])
    assert ran.frozen(ran.ins[0][2])


@pytest.mark.parametrize("op", OPS)
def test_the_column_of_the_recurrence_is_gated_inside(op: str) -> None:
    assert node(op).c.recurs == [("node", 2, 2)]


@pytest.mark.parametrize("op", OPS)
def test_hidden_size_follows(op: str) -> None:
    ran = node(op)
    (patch,) = ran.c.patches
    assert (patch.key, patch.value, patch.scalar) == ("hidden_size", (H,), True)
    assert patch.elements[0][1] is ran.ins[2][2]


def test_an_absent_hidden_size_stays_absent() -> None:
    assert node("RNN", hidden_size=None).c.patches == []


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("layout", [0, 1])
def test_both_products_of_every_step_are_counted(op: str, layout: int) -> None:
    ran = node(op, 2, layout=layout)
    total = sum(scale * int(np.prod([len(a) for a in axes])) for scale, axes in ran.c.products)
    assert total == T * N * 2 * GATES[op] * H * (WIDTH + H)


@pytest.mark.parametrize("op", OPS)
def test_optional_inputs_may_be_absent(op: str) -> None:
    ran = node(op, optional=False)
    assert ran.tied(ran.outs[0][-1], ran.ins[2][2])


@pytest.mark.parametrize(
    ("w", "r", "why"),
    [
        ((1, 15, WIDTH), (1, 16, H), "15 rows for 4 blocks"),
        ((1, 16, WIDTH), (1, 12, H), "12 rows for 4 blocks"),
        ((1, 16), (1, 16, H), "three axes"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    w: tuple[int, ...], r: tuple[int, ...], why: str
) -> None:
    with pytest.raises(Unsupported, match=why):
        run("LSTM", [(T, N, WIDTH), w, r], [(T, 1, N, H)])


def test_a_projected_state_is_refused() -> None:
    shapes = [(T, N, WIDTH), (1, 16, WIDTH), (1, 16, H), None, None, (1, N, H), (1, N, 9)]
    with pytest.raises(Unsupported, match="initial state"):
        run("LSTM", shapes, [(T, 1, N, H)])
