"""Profiles whose times are computed: what a machine without noise would measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prunec.compiler.problem import IntArray
from prunec.runtime.latency.design import design
from prunec.runtime.latency.measure import record
from prunec.runtime.latency.profile import Measured, Setup, setup_of, write_profile
from prunec.runtime.latency.segments import Segment, segments
from prunec.runtime.subject import Subject

ELSEWHERE = Setup("Other CPU", "cpu", 1, "float32", "1.0.0")


def steps(sizes: Sequence[int]) -> float:
    """Nanoseconds: channels padded to blocks of 16."""
    blocks = -(-np.array(sizes, np.int64) // 16) * 16
    return float(2000 + 30 * blocks.sum() + 5 * blocks.prod())


def computed(subject: Subject, levels: Sequence[IntArray], models: int = 60) -> Measured:
    """A profile of what `steps` says of every segment."""
    parts = segments(subject)
    measured = Measured()
    for counts in design(levels, models):
        record(parts, counts, _times(parts, counts), measured)
    return measured


def true_latency(subject: Subject, counts: Sequence[int]) -> float:
    """The sum over the segments."""
    return sum(steps(part.sizes(counts)) for part in segments(subject))


def profile_file(path: Path, subject: Subject, levels: Sequence[IntArray]) -> Path:
    """The same written for this machine's onnxruntime."""
    write_profile({setup_of(subject, "cpu", 1): computed(subject, levels)}, path)
    return path


def _times(parts: Sequence[Segment], counts: Sequence[int]) -> dict[int, float]:
    return {part.nodes[0]: steps(part.sizes(counts)) for part in parts}
