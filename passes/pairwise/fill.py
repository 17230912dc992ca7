"""Moves of single levels and channel positions: into the budget, and up to its edge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from prunec.compiler.pairwise import Mask
from prunec.compiler.problem import FloatArray
from prunec.passes.pairwise.ascent import Ascent
from prunec.passes.pairwise.state import State
from prunec.passes.pairwise.streams import Form, Stream

LOOSER = (0.9, 0.7, 0.4, 0.0)
TIGHTER = (1.1, 1.4, 2.0, 4.0)
ROUNDS = 30
SHOWN = 64  # moves tried of one list before the gains are looked at again


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """Positions of hyperedges that come and go; rank: higher first."""

    rank: float
    on: dict[int, list[int]]
    off: dict[int, list[int]]


def fill(ascent: Ascent, state: State, prices: FloatArray) -> None:
    """Add what still fits, best importance for its price first."""
    for _ in range(ROUNDS):
        moves = sorted(_moves(ascent, state, prices, LOOSER, 1), key=lambda m: -m.rank)
        if not sum([_apply(ascent, state, move, grow=True) for move in moves[:SHOWN]]):
            return


def trim(ascent: Ascent, state: State, prices: FloatArray) -> bool:
    """Drop what costs most for its importance until the limits hold; False where that fails."""
    for _ in range(ROUNDS):
        if state.fits():
            return True
        moves = sorted(_moves(ascent, state, prices, TIGHTER, -1), key=lambda m: -m.rank)
        moved = False
        for move in moves[:SHOWN]:
            if state.fits():
                return True
            moved = _apply(ascent, state, move, grow=False) or moved
        if not moved:
            return False
    return state.fits()


def _moves(
    ascent: Ascent, state: State, prices: FloatArray, scales: tuple[float, ...], sign: int
) -> Iterator[Move]:
    """Moves to more (sign 1) or fewer channels, with importance per price as their rank."""
    for block in ascent.blocks:
        if isinstance(block, tuple):
            continue  # branches close and open in the ascent
        if isinstance(block, Stream):
            yield from _stream_moves(ascent, state, block, prices, scales, sign)
        else:
            yield from _level_moves(ascent, state, block, prices, sign)


def _level_moves(
    ascent: Ascent, state: State, e: int, prices: FloatArray, sign: int
) -> Iterator[Move]:
    n, levels = state.counts[e], ascent.levels(state, e)
    ahead = levels[levels > n][:2] if sign > 0 else levels[levels < n][-2:]
    if not len(ahead):
        return
    gains, x = state.gains[e], state.x[e]
    rows = state.meter.along(e, ahead) - state.meter.values[:, None]
    if sign > 0:
        fits = (rows <= _slack(state)[:, None]).all(axis=0)
        ahead, rows = ahead[fits], rows[:, fits]
    costs = prices @ rows
    pool = np.flatnonzero(~x if sign > 0 else x)
    order = pool[np.argsort(-sign * gains[pool], kind="stable")]
    for level, cost in zip(ahead.tolist(), costs.tolist(), strict=True):
        chosen = order[: abs(level - n)]
        rank = _rank(sign * float(gains[chosen].sum()), cost, sign)
        groups = {e: chosen.tolist()}
        yield Move(rank, groups, {}) if sign > 0 else Move(rank, {}, groups)


def _slack(state: State) -> FloatArray:
    return np.asarray(state.limits - state.meter.values + 1e-6)


def _rank(worth: float, cost: float, sign: int) -> float:
    """Importance won per price paid; when shrinking, minus the importance lost per price saved."""
    if cost * sign <= 0:
        return float("inf") if worth >= 0 else -float("inf")
    return worth / cost if sign > 0 else -abs(worth) / abs(cost)


def _stream_moves(
    ascent: Ascent,
    state: State,
    stream: Stream,
    prices: FloatArray,
    scales: tuple[float, ...],
    sign: int,
) -> Iterator[Move]:
    """Per component of the stream: what it would be at lower or higher prices."""
    rows = {e: state.meter.slope(e) for e in stream.edges}
    slopes = {e: prices @ own for e, own in rows.items()}
    slack = _slack(state)
    fixed = {e: state.x[e] for e in stream.edges if len(ascent.problem.levels[e]) == 1}
    for scale in scales:
        gains = {e: state.gains[e] - scale * slopes[e] for e in stream.edges}
        for form in stream.forms:
            _, values = form.solve(gains, fixed)
            new = np.stack(values, axis=1).astype(bool)
            old = np.stack(
                [state.x[e][form.places[:, v]] for v, e in enumerate(form.edges)], axis=1
            )
            change = new.astype(float) - old
            worth = sum(
                state.gains[e][form.places[:, v]] * change[:, v] for v, e in enumerate(form.edges)
            )
            cost = change @ np.array([slopes[e] for e in form.edges])
            usable = (new != old).any(axis=1) & (cost * sign > 0)
            if sign > 0:
                paid = change @ np.array([rows[e] for e in form.edges])
                usable &= (paid <= slack).all(axis=1) & (worth > 0)
            for c in np.flatnonzero(usable).tolist():
                yield Move(
                    _rank(float(worth[c]), float(cost[c]), sign),
                    _places(form, c, new[c] & ~old[c]),
                    _places(form, c, old[c] & ~new[c]),
                )


def _places(form: Form, component: int, variables: Mask) -> dict[int, list[int]]:
    out: dict[int, list[int]] = {}
    for v in np.flatnonzero(variables).tolist():
        out.setdefault(form.edges[v], []).append(int(form.places[component, v]))
    return out


def _apply(ascent: Ascent, state: State, move: Move, grow: bool) -> bool:
    """Make a move that is still one, keeps the levels, and fits and helps, or shrinks."""
    before = {e: state.x[e] for e in {*move.on, *move.off}}
    if any(state.x[e][own].any() for e, own in move.on.items()):
        return False
    if any(not state.x[e][own].all() for e, own in move.off.items()):
        return False
    value, usage = state.value(), state.usage()
    for e, mask in before.items():
        new = mask.copy()
        new[move.on.get(e, [])] = True
        new[move.off.get(e, [])] = False
        state.change(e, new)
    levels_hold = all(state.counts[e] in ascent.levels(state, e) for e in before)
    better = (
        state.fits() and state.value() > value + 1e-12
        if grow
        else bool(state.usage().max() < usage.max())
    )
    if levels_hold and better:
        return True
    for e, mask in before.items():
        state.change(e, mask)
    return False
