"""What a run computes and keeps, in the order that counts, and what is live when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from prunec.compiler.buffers import Run, Sizes, Step, buffer_bytes, computed_times, run_of
from prunec.compiler.calls import call_of
from prunec.compiler.facts import Facts
from prunec.compiler.labels import AxisLabels
from prunec.compiler.ordering import best_order


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """What a run computes and keeps. sizes: bytes of every buffer, dense. computed: (value, how
    often) for what nodes compute anew. run: in the order that counts. order: names of all nodes
    where that is not the file's, else ().
    """

    sizes: Sizes
    computed: tuple[tuple[str, int], ...]
    run: Run
    order: tuple[str, ...]


def timeline(
    graph: ir.Graph,
    labels: Mapping[str, AxisLabels],
    constants: frozenset[str],
    facts: Facts,
    opset: int,
) -> Timeline:
    """The timeline of an interpreted graph.

    The order is searched for at the dense sizes. It stays that of the file where nothing better is
    found, and where nodes come from calls of functions, whose nodes must stay together.
    """
    sizes = buffer_bytes(graph, labels, constants, facts)
    computed = tuple((v, n) for v, n in computed_times(graph, facts, opset) if v in sizes)
    run = run_of(graph, sizes, facts, opset)
    called = any(call_of(node) is not None for node in graph)
    numbers = () if called else best_order(run, sizes)
    if not numbers:
        return Timeline(sizes, computed, run, ())
    steps = tuple(run.steps[k] for k in numbers)
    order = tuple(name for step in steps for name in step.nodes)
    return Timeline(sizes, computed, replace(run, steps=steps), order)


def moments(run: Run, kinds: Mapping[str, int]) -> list[dict[int, int]]:
    """What is in memory whenever more is taken: kind of buffer -> how many of them are live.

    kinds: buffer -> kind; equal moments come once, in the order of time. A write that takes the
    place of a read of its own size needs nothing more. What a body keeps comes on top of what is
    live around it.
    """
    found: dict[frozenset[tuple[int, int]], dict[int, int]] = {}
    _pass_through(run, kinds, {}, found)
    return list(found.values())


def _pass_through(
    run: Run,
    kinds: Mapping[str, int],
    live: dict[int, int],
    found: dict[frozenset[tuple[int, int]], dict[int, int]],
) -> None:
    def take(names: Iterable[str], by: int) -> None:
        for name in names:
            kind = kinds[name]
            live[kind] = live.get(kind, 0) + by
            if not live[kind]:
                del live[kind]

    last = last_uses(run)
    own = set(run.carried)
    take(run.carried, 1)
    for number, step in enumerate(run.steps):
        if step.bodies:
            take(step.held, 1)
            for body in step.bodies:
                _pass_through(body, kinds, live, found)
            take(step.held, -1)
        replaced = replacements(run, step, own, last, number)
        take(replaced.values(), -1)
        own.difference_update(replaced.values())
        take(step.writes, 1)
        own.update(step.writes)
        if len(replaced) < len(step.writes):
            found.setdefault(frozenset(live.items()), dict(live))
        over = [b for b in (*step.reads, *step.writes) if last.get(b) == number and b in own]
        over = [b for b in dict.fromkeys(over) if b not in run.stays]
        take(over, -1)
        own.difference_update(over)
    take(own, -1)


def last_uses(run: Run) -> dict[str, int]:
    """Buffer -> number of the last step that reads or writes it."""
    return {b: number for number, step in enumerate(run.steps) for b in (*step.reads, *step.writes)}


def replacements(
    run: Run, step: Step, own: set[str], last: Mapping[str, int], number: int
) -> dict[str, str]:
    """Write -> the read whose place it takes: the first that is the run's own and ends here."""
    found: dict[str, str] = {}
    for read, write in step.reuses:
        ends = last[read] == number and read not in run.stays
        new = write not in run.stays and write not in found
        if ends and new and read in own and read not in found.values():
            found[write] = read
    return found
