"""Blocks of random graphs that run over positions as time; every one maps (N, C, *S).

Gates are a HardSigmoid of slope 1, which is 0 or 1 on integers, and what enters a gate is clipped
to -8..8: all states stay small integers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from properties.blocks import Block
from properties.builder import Builder

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEP, LINE = "HardSigmoid", "Affine"
ACTIVATIONS = {"LSTM": (STEP, LINE, LINE), "GRU": (STEP, LINE), "RNN": (LINE,)}


def sequence(b: Builder, x: str) -> str:
    """(N, C, *S) as (T, N, C)."""
    n, c, *space = b.shapes[x]
    return b.transpose(b.reshape(x, (n, c, int(np.prod(space)))), 2, 0, 1)


def recurrence(b: Builder, op: str, x: str, hidden: int, ends: bool = False) -> str:
    """(T, N, I) through one recurrent node, (T, N, D*H); if `ends` its last states, (1, N, D*H)."""
    t, n, size = b.shapes[x]
    direction = b.pick(("forward", "reverse", "bidirectional"))
    d, g = 1 + (direction == "bidirectional"), GATES[op]
    lengths = ""
    if b.chance(0.3):
        lengths = b.store(b.rng.integers(1, t + 1, n).astype(np.int32))
    inputs = [
        x,
        b.integers(d, g * hidden, size),
        b.integers(d, g * hidden, hidden),
        b.integers(d, 2 * g * hidden) if b.chance() else "",
        lengths,
        state(b, d, n, hidden),
    ]
    if op == "LSTM":
        inputs += [state(b, d, n, hidden), b.integers(d, 3 * hidden) if b.chance() else ""]
    attributes = {"linear_before_reset": int(b.chance())} if op == "GRU" else {}
    names = ACTIVATIONS[op] * d
    shapes = [(t, d, n, hidden), *[(d, n, hidden)] * (2 if op == "LSTM" else 1)]
    y, *last = b.many(
        op,
        inputs,
        shapes,
        hidden_size=hidden,
        direction=direction,
        activations=list(names),
        # One number for each activation that takes one, in order.
        activation_alpha=[1.0] * len(names),
        activation_beta=[0.0] * len(names),
        clip=8.0,
        **attributes,
    )
    if ends:
        end = b.transpose(b.tame(b.pick(last)), 1, 0, 2)
        return b.reshape(end, (1, n, d * hidden))
    return b.reshape(b.transpose(b.tame(y), 0, 2, 1, 3), (0, 0, -1), (t, n, d * hidden))


def state(b: Builder, d: int, n: int, hidden: int) -> str:
    """An initial state: absent, stored, stretched, zeros, or made of the input."""
    kind = b.pick(("absent", "stored", "stretched", "zeros"))
    if kind == "absent":
        return ""
    if kind == "stored":
        return b.integers(d, n, hidden)
    if kind == "zeros":
        return b.add("ConstantOfShape", [b.ints((d, n, hidden))], (d, n, hidden))
    return b.add("Expand", [b.integers(d, 1, hidden), b.ints((d, n, hidden))], (d, n, hidden))


def back(b: Builder, x: str, space: list[int]) -> str:
    """(T, N, H) as (N, H, *S); the end of a sequence is one position."""
    _, n, hidden = b.shapes[x]
    return b.reshape(b.transpose(x, 1, 2, 0), (n, -1, *space), (n, hidden, *space))


def lstm(b: Builder, x: str) -> str:
    return back(b, recurrence(b, "LSTM", sequence(b, x), b.pick((3, 4))), b.shapes[x][2:])


def gru(b: Builder, x: str) -> str:
    return back(b, recurrence(b, "GRU", sequence(b, x), b.pick((3, 4))), b.shapes[x][2:])


def rnn(b: Builder, x: str) -> str:
    return back(b, recurrence(b, "RNN", sequence(b, x), b.pick((3, 4))), b.shapes[x][2:])


def stacked(b: Builder, x: str) -> str:
    """Two recurrent layers; the last states of the second are added to the channels."""
    first, second = b.pick(("LSTM", "GRU", "RNN")), b.pick(("LSTM", "GRU", "RNN"))
    h = recurrence(b, first, sequence(b, x), b.pick((3, 4)))
    h = recurrence(b, second, h, b.pick((2, 4)), ends=True)
    last = back(b, h, [1] * (len(b.shapes[x]) - 2))
    return b.add("Add", [x, b.conv(last, b.shapes[x][1])])


def encoder_decoder(b: Builder, x: str) -> str:
    """The last state of one recurrence is where another, with the same weights, starts."""
    steps, hidden = sequence(b, x), b.pick((3, 4))
    weights = _weights(b, b.shapes[x][1], hidden)
    _, h, cell = _plain_lstm(b, [steps, *weights], hidden)
    y, *_ = _plain_lstm(b, [steps, *weights, "", "", b.tame(h), b.tame(cell)], hidden)
    return back(
        b, b.axes("Squeeze", b.tame(y), [1], (*b.shapes[steps][:2], hidden)), b.shapes[x][2:]
    )


def primed(b: Builder, x: str) -> str:
    """A recurrence starts where the same weights end up on a stored sequence."""
    n, c, *space = b.shapes[x]
    steps, hidden = sequence(b, x), b.pick((3, 4))
    weights = _weights(b, c, hidden)
    _, h, cell = _plain_lstm(b, [b.integers(2, n, c), *weights], hidden)
    y, *_ = _plain_lstm(b, [steps, *weights, "", "", h, cell], hidden)
    return back(b, b.axes("Squeeze", b.tame(y), [1], (*b.shapes[steps][:2], hidden)), space)


def _weights(b: Builder, size: int, hidden: int) -> list[str]:
    return [b.integers(1, 4 * hidden, size), b.integers(1, 4 * hidden, hidden)]


def _plain_lstm(b: Builder, inputs: list[str], hidden: int) -> list[str]:
    t, n, _ = b.shapes[inputs[0]]
    return b.many(
        "LSTM",
        inputs,
        [(t, 1, n, hidden), (1, n, hidden), (1, n, hidden)],
        hidden_size=hidden,
        activations=list(ACTIVATIONS["LSTM"]),
        activation_alpha=[1.0] * 3,
        activation_beta=[0.0] * 3,
        clip=8.0,
    )


def crossed(b: Builder, x: str) -> str:
    """Channels as the time or the batch of a recurrence over the positions."""
    n, c, *space = b.shapes[x]
    flat = b.reshape(x, (n, c, int(np.prod(space))))
    is_time = b.chance()
    h = recurrence(b, b.pick(sorted(GATES)), b.transpose(flat, 1, 0, 2) if is_time else flat, 3)
    h = b.transpose(h, 1, 0, 2) if is_time else h
    total = b.axes("ReduceSum", h, [1, 2], (n, 1, 1), keepdims=1)
    return b.add("Add", [x, b.reshape(total, (n, 1, *[1] * len(space)))])


def unrolled(b: Builder, x: str) -> str:
    """A recurrent cell written out: Gemm and elementwise over two steps, from zeros."""
    n, c, *space = b.shapes[x]
    hidden = b.pick((3, 4))
    w, r = b.integers(3 * hidden, c), b.integers(3 * hidden, hidden)
    h = b.add("ConstantOfShape", [b.ints((n, hidden))], (n, hidden))
    steps = b.reshape(b.pooled(x), (n, c))
    for _ in range(2):
        gates = [b.add("Gemm", [v, m], (n, 3 * hidden), transB=1) for v, m in ((steps, w), (h, r))]
        z, g, o = b.split(b.tame(b.add("Add", gates)), 1, [hidden] * 3)
        h = b.tame(b.add("Add", [b.add("Mul", [z, h]), b.add("Mul", [g, o])]))
    return b.add("Add", [x, b.conv(b.reshape(h, (n, hidden, *[1] * len(space))), c)])


RECURRING: Mapping[str, Block] = {
    f.__name__: f for f in (lstm, gru, rnn, stacked, encoder_decoder, primed, crossed, unrolled)
}
