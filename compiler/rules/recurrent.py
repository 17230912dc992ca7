"""Recurrent operators: a hidden unit is one row of every gate and one column of the recurrence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prunec.compiler.labels import AxisLabels, Coupler, Labels
from prunec.compiler.reasons import Reason
from prunec.compiler.site import Rule, Site, Unsupported, product, stay

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}  # z r h; i o f c; i
PEEPHOLES = 3  # i o f of an LSTM


def recurrent(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x (T, N, I), w (D, G*H, I), r (D, G*H, H), b (D, 2*G*H), -, h0, c0 (D, N, H), p (D, 3*H)
    -> y (T, D, N, H), y_h, y_c (D, N, H)``; with layout 1 the batch comes first.

    ONNX LSTM, GRU, RNN. The directions share H: a unit leaves all of them. Inside, its state is
    read through its column of r, where no activation can be gated: `recur` gates the column.
    """
    x, w, r, b, _, h0, c0, p = (*ins, *[()] * 8)[:8]
    if not len(x) == len(w) == len(r) == 3:
        raise Unsupported("inputs X, W and R must have three axes")
    gates, hidden = GATES[site.node.op_type], r[2]
    c.tie(_by_unit(w[1], gates, hidden), hidden, "rows of W for the gates of a hidden unit")
    c.tie(_by_unit(r[1], gates, hidden), hidden, "rows of R for the gates of a hidden unit")
    if b:
        c.tie(_by_unit(b[1], 2 * gates, hidden), hidden, "biases of the gates of a hidden unit")
    if p:
        c.tie(_by_unit(p[1], PEEPHOLES, hidden), hidden, "peepholes of a hidden unit")
    for state in (h0, c0):
        if state:
            c.tie(state[2], hidden, "the initial state of a hidden unit")
    c.recur(2, 2)
    _input(site, x[2], w[2], c)
    for value in (x, h0, c0):
        for labels in value[:2]:
            c.freeze(labels, Reason.SPATIAL_AXIS, "the time, batch or direction of a recurrence")
    for position, rows in ((1, w[1]), (2, r[1])):
        if site.weights[position]:
            c.free(rows)
    c.resize("hidden_size", len(hidden), {0: hidden} if site.attr("hidden_size") else {})
    times = product(site.in_shapes[0][:2]) * len(w[0])
    c.macs(w[1], w[2], scale=times)
    c.macs(r[1], r[2], scale=times)
    return [(*stay(shape[:-1], c), hidden) if shape else () for shape in site.out_shapes]


def _by_unit(rows: Labels, blocks: int, hidden: Labels) -> Labels:
    """(blocks * H,) as (blocks, H)."""
    if len(rows) != blocks * len(hidden):
        raise Unsupported(f"{len(rows)} rows for {blocks} blocks of {len(hidden)} hidden units")
    return rows.reshape(blocks, -1)


def _input(site: Site, x: Labels, w: Labels, c: Coupler) -> None:
    c.tie(x, w, f"the input of a {site.node.op_type}")
    c.read(x)
    c.read(w)
    if not site.gated(0) and not site.gated(1):
        c.freeze(x, Reason.WEIGHT_PRODUCT, "a product of two weights")


RULES: Mapping[str, Rule] = dict.fromkeys(GATES, recurrent)
