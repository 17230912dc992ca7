"""Where onnxruntime places buffers in one block: what lifetimes alone do not tell."""

from __future__ import annotations

from math import prod

import numpy as np

from prunec.compiler.buffers import Run
from prunec.compiler.facts import Facts
from prunec.compiler.schedule import last_uses, replacements

ALIGNMENT = 256  # bytes
Place = tuple[int, int, str]  # offset, size, home


def packed_peak(run: Run, facts: Facts) -> int:
    """Size of the block in which all buffers are placed one by one, as onnxruntime does it.

    facts: of the model as it stands. Each buffer goes into the free gap that fits best, else behind
    the last one. Lifetimes are known but later buffers are not looked at: a small one may end up
    where a large one would have fitted. A buffer that is over is kept for the next of its shape,
    if there is one. Bodies are left out.
    Source: `AllocationPlanner` and `MemPatternPlanner` of onnxruntime 1.31.
    """
    home = _homes(run, facts)
    last: dict[str, int] = {}
    for number, step in enumerate(run.steps):
        last.update((home[b], number) for b in (*step.reads, *step.writes) if b in home)
    stays = {home[b] for b in run.stays if b in home}
    places: list[Place] = []
    most = 0
    for number, step in enumerate(run.steps):
        for name in step.writes:
            if home[name] == name:
                size = prod(facts.shapes[name]) * facts.dtypes[name].itemsize
                size = -(-size // ALIGNMENT) * ALIGNMENT
                offset = _offset(places, size)
                places = sorted([*places, (offset, size, name)])
                most = max(most, offset + size)
        there = {home[b] for b in (*step.reads, *step.writes) if b in home}
        over = {h for h in there if last[h] == number and h not in stays}
        places = [place for place in places if place[2] not in over]
    return most


def _homes(run: Run, facts: Facts) -> dict[str, str]:
    """Buffer -> the buffer whose memory it has: one that it replaces, or one of the same shape
    that is over; itself where there is none.
    """
    last = last_uses(run)
    own: set[str] = set()
    home: dict[str, str] = {}
    free: dict[tuple[tuple[int, ...], np.dtype[np.generic]], list[str]] = {}
    for number, step in enumerate(run.steps):
        replaced = replacements(run, step, own, last, number)
        for name in step.writes:
            kind = facts.shapes[name], facts.dtypes[name]
            left = free.get(kind) if name not in run.stays else None
            if name in replaced:
                home[name] = home[replaced[name]]
            else:
                home[name] = left.pop() if left else name
        own.update(step.writes)
        own.difference_update(replaced.values())
        for name in dict.fromkeys((*step.reads, *step.writes)):
            if name in own and last[name] == number and name not in run.stays:
                own.discard(name)
                free.setdefault((facts.shapes[name], facts.dtypes[name]), []).append(home[name])
    return home


def _offset(places: list[Place], size: int) -> int:
    """The gap that wastes least, the first of equals; else the end of the last place."""
    end, best = 0, None
    for offset, own, _ in places:
        gap = offset - end
        if gap >= size and (best is None or gap < best[0]):
            best = gap, end
        end = max(end, offset + own)
    return end if best is None else best[1]
