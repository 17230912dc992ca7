"""Which kernel counts for which node, and which runs count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prunec.runtime.latency.kernels import REPEATS, Where, by_node, calm, kernel_times, undisturbed
from prunec.runtime.latency.segments import segments
from prunec.runtime.subject import open_model
from prunec.tools.demo import DIGITS


def event(name: str, start: int, duration: int, index: int) -> dict[str, Any]:
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "ts": start,
        "dur": duration,
        "args": {"node_index": str(index)},
    }


def test_a_fused_kernel_counts_for_the_node_in_its_name() -> None:
    events = [event("prunec_n3_0_nchwc", 0, 20, 7), event("prunec_n5_", 30, 10, 8)]
    assert by_node(events) == {3: 20_500.0, 5: 10_500.0}


def test_a_reorder_counts_for_the_node_that_needs_it() -> None:
    events = [
        event("prunec_n1_", 0, 5, 0),
        event("ReorderInput", 10, 2, 1),
        event("prunec_n2_", 20, 7, 2),
        event("ReorderOutput", 30, 3, 3),
    ]
    assert by_node(events) == {1: 5_500.0, 2: 2_500.0 + 7_500.0 + 3_500.0}


def test_kernels_inside_of_a_body_count_once() -> None:
    events = [event("prunec_n4_", 0, 100, 0), event("body_add", 10, 20, 0)]
    assert by_node(events) == {4: 100_500.0}


def test_other_events_are_ignored() -> None:
    fence = {"cat": "Node", "name": "prunec_n1__fence_before", "ts": 0, "dur": 9, "args": {}}
    run = {"cat": "Session", "name": "model_run", "ts": 0, "dur": 50, "args": {}}
    assert by_node([fence, run, event("prunec_n1_", 10, 4, 0)]) == {1: 4_500.0}


def test_the_first_round_and_the_first_run_of_each_do_not_count() -> None:
    durations = [900] * REPEATS + [900, 10, 10] * 4
    events = [event("prunec_n0_", 1000 * k, d, 0) for k, d in enumerate(durations)]
    assert by_node(events) == {0: 10_500.0}


def test_disturbed_runs_are_left_out() -> None:
    quiet = np.array([10.0, 10.1, 10.2, 10.1, 10.0, 10.2, 10.1, 10.1])
    assert undisturbed(np.append(quiet, [400.0, 14.0])).max() < 11
    assert calm(np.append(quiet, [400.0, 14.0])) == pytest.approx(10.0, abs=0.15)


def test_equal_runs_are_all_kept() -> None:
    assert len(undisturbed(np.full(6, 3.0))) == 6


def test_a_model_is_timed_node_by_node() -> None:
    subject = open_model(DIGITS)
    dense = subject.graph.dense()
    half = [max(1, n // 2) for n in dense]
    (whole, halved) = kernel_times(subject, [dense, half], Where(), 2, half)
    parts = segments(subject)
    own = {k for part in parts for k in part.nodes}
    for times in (whole, halved):
        assert set(times) <= own
        # Whatever is fused, each part with weights has a kernel of its own.
        assert all(any(k in times for k in part.nodes) for part in parts)
        assert sum(times.values()) > 0


def test_the_profilers_own_share_is_taken_off() -> None:
    events = [event("prunec_n1_", 0, 20, 0), event("prunec_n2_", 30, 2, 1)]
    assert by_node(events, overhead=3_000.0) == {1: 17_500.0, 2: 250.0}
