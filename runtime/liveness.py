"""The peak of live activations from the lifetime of every buffer: the check on `memory`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prunec.compiler.buffers import Run


def live_peak(run: Run, nbytes: Mapping[str, int]) -> int:
    """Most bytes that are live at once when the steps run in this order.

    nbytes: of every buffer, as the model stands. A buffer is live from the step that writes it to
    the last that reads it, an output to the end; where a write takes the place of a read, the read
    ends a step earlier. Bodies run on top of what is live at their node.
    """
    count = len(run.steps)
    begin, end = dict.fromkeys(run.carried, 0), dict.fromkeys(run.carried, count - 1)
    for number, step in enumerate(run.steps):
        begin.update((name, number) for name in step.writes)
        end.update((name, number) for name in (*step.writes, *step.reads) if name in begin)
    last = dict(end)
    end.update((name, count - 1) for name in run.stays if name in begin)
    for number, step in enumerate(run.steps):
        taken: set[str] = set()
        for read, write in step.reuses:
            ends = read in begin and last[read] == number and read not in run.stays
            if ends and write not in run.stays and not {read, write} & taken:
                taken |= {read, write}
                end[read] = number - 1
    change = np.zeros(count + 1, np.int64)
    for name, first in begin.items():
        change[first] += nbytes[name]
        change[end[name] + 1] -= nbytes[name]
    live = np.cumsum(change)[:-1]
    inside = [
        int(live[number])
        - sum(nbytes[w] for w in step.writes)
        + sum(nbytes[h] for h in step.held)
        + max(live_peak(body, nbytes) for body in step.bodies)
        for number, step in enumerate(run.steps)
        if step.bodies
    ]
    return max([*live.tolist(), *inside], default=0)
