"""Latency of models side by side: interleaved samples, medians, an interval for the ratio."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.errors import UsageError
from prunec.frontends.onnx import load
from prunec.frontends.origin import origin_of
from prunec.runtime.allocation import measure_allocation
from prunec.runtime.inputs import NO_SHAPES, Feeds, random_feeds
from prunec.runtime.session import Session, import_onnxruntime, make_session

SAMPLE_S = 0.005  # shorter samples measure the clock and the scheduler
WARM_UP_S = 0.2
LEAST_ROUNDS = 5
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Timing:
    """One model. Times are seconds per run; repeats: runs per sample; shapes: what it was fed.

    allocated: bytes that onnxruntime's CPU provider takes for the activations of one run, or None.
    """

    path: str
    bytes: int
    median_s: float
    fastest_s: float
    samples_s: tuple[float, ...] = field(repr=False)
    repeats: int
    shapes: Mapping[str, tuple[int, ...]]
    allocated: int | None = None


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median time of the first model by that of another, with its bootstrap 95 % interval."""

    path: str
    ratio: float
    low: float
    high: float

    @property
    def faster(self) -> bool:
        """Whether the other model is faster beyond the noise."""
        return self.low > 1


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Timings in the order of the paths, and ratios of the first model to each other one.

    provider: what ran. fallback: why it is not the one asked for, or empty.
    """

    provider: str
    fallback: str
    threads: int
    rounds: int
    models: tuple[Timing, ...]
    ratios: tuple[Ratio, ...]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def bench(
    paths: Sequence[str | Path],
    *,
    provider: str = "cpu",
    threads: int = 1,
    batch: int = 1,
    rounds: int = 50,
    seconds: float = 20.0,
    shapes: Mapping[str, tuple[int, ...]] = NO_SHAPES,
    seed: int = 0,
    memory: bool = False,
) -> BenchResult:
    """Time models on random inputs, one sample of each per round: A B A B ...

    Inputs and outputs are bound once; on CUDA they lie on the device. batch: for symbolic first
    dimensions. Measuring ends after `rounds`, or after `seconds` in all (but not before 5 rounds).
    memory: also what each model allocates on the CPU, see `measure_allocation`.
    """
    if not paths:
        raise UsageError("bench needs at least one model")
    if rounds < 1 or batch < 1 or seconds <= 0:
        raise UsageError("--rounds and --batch must be at least 1, --seconds above 0")
    sessions = [make_session(Path(p), provider=provider, threads=threads) for p in paths]
    feeds = [random_feeds(s.inputs, seed, batch=batch, shapes=shapes) for s in sessions]
    runners = [Runner(s, f) for s, f in zip(sessions, feeds, strict=True)]
    repeats = [runner.warm_up() for runner in runners]
    samples = _measure(runners, repeats, rounds, seconds)
    shapes_fed = [{name: array.shape for name, array in own.items()} for own in feeds]
    timings = tuple(
        Timing(
            path=str(path),
            bytes=size_on_disk(Path(path)),
            median_s=statistics.median(times),
            fastest_s=min(times),
            samples_s=tuple(times),
            repeats=count,
            shapes=fed,
            allocated=measure_allocation(path, fed).total if memory else None,
        )
        for path, times, count, fed in zip(paths, samples, repeats, shapes_fed, strict=True)
    )
    return BenchResult(
        provider=sessions[0].provider,
        fallback=sessions[0].fallback,
        threads=threads,
        rounds=len(samples[0]),
        models=timings,
        ratios=tuple(
            Ratio(str(path), *ratio_interval(samples[0], times, seed))
            for path, times in zip(paths[1:], samples[1:], strict=True)
        ),
    )


class Runner:
    """A session with inputs and outputs bound once."""

    def __init__(self, session: Session, feeds: Feeds) -> None:
        self.session = session
        self.binding = session.native.io_binding()
        device = session.provider
        values = import_onnxruntime().OrtValue
        for name, array in feeds.items():
            self.binding.bind_ortvalue_input(
                name, values.ortvalue_from_numpy(np.ascontiguousarray(array), device, 0)
            )
        for name in session.outputs:
            self.binding.bind_output(name, device, 0)

    def sample(self, repeats: int) -> float:
        """Seconds per run, as the mean over `repeats` runs."""
        run, binding = self.session.native.run_with_iobinding, self.binding
        start = time.perf_counter_ns()
        for _ in range(repeats):
            run(binding)
        binding.synchronize_outputs()
        return (time.perf_counter_ns() - start) * 1e-9 / repeats

    def warm_up(self) -> int:
        """Run until times settle; returns the repeats that make a sample long enough."""
        self.session.run_bound(self.binding)  # names the fault where the model cannot run
        end = time.perf_counter() + WARM_UP_S
        times = [self.sample(1) for _ in range(2)]
        while time.perf_counter() < end:
            times.append(self.sample(1))
        return max(1, int(np.ceil(SAMPLE_S / min(times))))


def _measure(
    runners: Sequence[Runner], repeats: Sequence[int], rounds: int, seconds: float
) -> list[list[float]]:
    samples: list[list[float]] = [[] for _ in runners]
    end = time.perf_counter() + seconds
    with without_garbage_collection():
        for done in range(rounds):
            if done >= LEAST_ROUNDS and time.perf_counter() > end:
                break
            for runner, count, times in zip(runners, repeats, samples, strict=True):
                # Untimed: fetches this model's weights into the caches and wakes its threads.
                runner.sample(1)
                times.append(runner.sample(count))
    return samples


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Python collects nothing meanwhile."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def ratio_interval(
    first: Sequence[float], second: Sequence[float], seed: int = 0
) -> tuple[float, float, float]:
    """``median(first) / median(second)`` and its 95 % percentile bootstrap interval.

    Rounds are drawn in pairs: what slows the machine down in a round slows both samples.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    assert a.shape == b.shape, (a.shape, b.shape)
    drawn = np.random.default_rng(seed).integers(len(a), size=(RESAMPLES, len(a)))
    ratios: NDArray[np.float64] = np.median(a[drawn], axis=1) / np.median(b[drawn], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(np.median(a) / np.median(b)), float(low), float(high)


def size_on_disk(path: Path) -> int:
    """Bytes of a model file and of the external data that it uses."""
    files = {path.resolve(), *(Path(file) for file in origin_of(load(path)).files)}
    return sum(file.stat().st_size for file in files)
