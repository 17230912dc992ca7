"""Orders of a graph: topological, no worse than the file's, and the best where all can be tried."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest

from prunec.compiler import ordering
from prunec.compiler.buffers import Run, Step
from prunec.compiler.ordering import best_order
from prunec.compiler.schedule import moments


def drawn(seed: int, count: int) -> tuple[Run, dict[str, int]]:
    """Steps that each write a buffer and read some before; some may write over what they read."""
    rng = np.random.default_rng(seed)
    sizes, steps = {}, []
    for k in range(count):
        name = f"b{k}"
        sizes[name] = int(rng.choice([1, 2, 8, 64]))
        most = min(k, 3)
        read = sorted(rng.choice(k, int(rng.integers(1, most + 1)), False).tolist()) if k else []
        same = (
            [f"b{p}" for p in read if sizes[f"b{p}"] == sizes[name]] if rng.random() < 0.5 else []
        )
        reads = tuple(f"b{p}" for p in read)
        steps.append(Step((f"n{k}",), reads, (name,), tuple(read), tuple((r, name) for r in same)))
    return Run(tuple(steps), frozenset([f"b{count - 1}"])), sizes


def naive_peak(run: Run, sizes: dict[str, int], order: Sequence[int]) -> int:
    """What is live is looked up anew at every step: made, and read later or never given back."""
    live: set[str] = set()
    most = 0
    for at, k in enumerate(order):
        step = run.steps[k]
        later = {b for s in order[at + 1 :] for b in run.steps[s].reads} | run.stays
        replaced: dict[str, str] = {}
        for read, write in step.reuses:
            over = read not in later and read not in replaced.values()
            if over and write not in {*replaced, *run.stays}:
                replaced[write] = read
        live = (live - set(replaced.values())) | set(step.writes)
        most = max(most, sum(sizes[b] for b in live))
        live &= later
    return most


def is_topological(run: Run, order: Sequence[int]) -> bool:
    place = {s: k for k, s in enumerate(order)}
    return len(place) == len(run.steps) and all(
        place[p] < place[k] for k, step in enumerate(run.steps) for p in step.after
    )


def brute_force(run: Run, sizes: dict[str, int]) -> int:
    orders = permutations(range(len(run.steps)))
    return min(naive_peak(run, sizes, o) for o in orders if is_topological(run, o))


@pytest.mark.parametrize("seed", range(60))
def test_small_graphs_get_the_best_of_all_orders(seed: int) -> None:
    run, sizes = drawn(seed, 7)
    order = best_order(run, sizes) or tuple(range(7))
    assert is_topological(run, order)
    assert naive_peak(run, sizes, order) == brute_force(run, sizes)


def test_some_small_graphs_are_reordered() -> None:
    assert sum(bool(best_order(*drawn(seed, 7))) for seed in range(60)) > 5


@pytest.mark.parametrize("seed", range(20))
def test_an_order_is_only_given_where_its_peak_is_lower(seed: int) -> None:
    run, sizes = drawn(seed, 40)
    order = best_order(run, sizes)
    assert order == best_order(run, sizes)
    if order:
        assert is_topological(run, order)
        assert naive_peak(run, sizes, order) < naive_peak(run, sizes, range(40))


@pytest.mark.parametrize("seed", range(20))
def test_without_the_exact_search_orders_are_still_no_worse(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordering, "EXPANSIONS", 0)
    run, sizes = drawn(seed, 30)
    order = best_order(run, sizes) or tuple(range(30))
    assert is_topological(run, order)
    assert naive_peak(run, sizes, order) <= naive_peak(run, sizes, range(30))


@pytest.mark.parametrize("seed", range(40))
def test_the_largest_moment_is_the_peak(seed: int) -> None:
    run, sizes = drawn(seed, 25)
    kinds = {name: k for k, name in enumerate(sizes)}
    values = list(sizes.values())
    most = max(sum(values[k] * n for k, n in moment.items()) for moment in moments(run, kinds))
    assert most == naive_peak(run, sizes, range(25))


def test_a_wide_step_is_put_off_until_its_neighbour_is_done() -> None:
    """Two branches of a sum: the narrow one holds 1, the wide one 9 while the other runs."""
    sizes = {"x": 4, "wide": 9, "deep": 9, "narrow": 1, "y": 1}
    steps = (
        Step(("x",), (), ("x",)),
        Step(("wide",), ("x",), ("wide",), (0,)),
        Step(("deep",), ("x",), ("deep",), (0,)),
        Step(("narrow",), ("deep",), ("narrow",), (2,)),
        Step(("sum",), ("wide", "narrow"), ("y",), (1, 3)),
    )
    run = Run(steps, frozenset(["y"]))
    assert naive_peak(run, sizes, range(5)) == 22  # x, wide and deep
    assert best_order(run, sizes) == (0, 2, 3, 1, 4)
    assert naive_peak(run, sizes, (0, 2, 3, 1, 4)) == 14  # x, narrow and wide


def test_steps_without_memory_come_right_before_who_needs_them() -> None:
    sizes = {"x": 4, "wide": 9, "deep": 9, "narrow": 1, "y": 1}
    steps = (
        Step(("table",), (), ()),
        Step(("x",), (), ("x",)),
        Step(("wide",), ("x",), ("wide",), (0, 1)),
        Step(("deep",), ("x",), ("deep",), (1,)),
        Step(("narrow",), ("deep",), ("narrow",), (3,)),
        Step(("sum",), ("wide", "narrow"), ("y",), (2, 4)),
    )
    assert best_order(Run(steps, frozenset(["y"])), sizes) == (1, 3, 4, 0, 2, 5)


def test_what_a_step_replaces_is_not_counted_twice() -> None:
    steps = (
        Step(("a",), (), ("a",)),
        Step(("b",), ("a",), ("b",), (0,), (("a", "b"),)),
        Step(("c",), ("b",), ("c",), (1,), (("b", "c"),)),
    )
    run = Run(steps, frozenset(["c"]))
    # An output gets a buffer of its own; the step between needs nothing more than the first.
    assert moments(run, {"a": 0, "b": 0, "c": 0}) == [{0: 1}, {0: 2}]
