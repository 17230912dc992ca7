"""Whole slim models against the clock, as `prunec bench` does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from prunec.frontends.onnx import save
from prunec.runtime.bench import bench
from prunec.runtime.latency.kernels import Times, Where, calm
from prunec.runtime.latency.slim import slim
from prunec.runtime.subject import Subject

ROUNDS = 8
SECONDS = 60.0


def samples_of(
    subject: Subject, group: Sequence[Sequence[int]], where: Where, rounds: int = ROUNDS
) -> list[Times]:
    """Nanoseconds per sample of slim models of these kept counts; the samples are interleaved."""
    with TemporaryDirectory(prefix="prunec-") as text:
        paths = [Path(text) / f"{k}.onnx" for k in range(len(group))]
        for path, counts in zip(paths, group, strict=True):
            save(slim(subject, counts), path)
        result = bench(
            paths,
            provider=where.provider,
            threads=where.threads,
            rounds=rounds,
            seconds=SECONDS,
            shapes=subject.shapes,
        )
    return [np.array(timing.samples_s) * 1e9 for timing in result.models]


def time_all(
    subject: Subject, group: Sequence[Sequence[int]], where: Where, rounds: int = ROUNDS
) -> list[float]:
    """Nanoseconds of slim models, each when it is let alone (`calm`)."""
    return [calm(times) for times in samples_of(subject, group, where, rounds)]
