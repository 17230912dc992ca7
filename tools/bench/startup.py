"""Time of ``prunec --help``: the median of some runs against the limit of 0.3 s."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 10
LIMIT_S = 0.3


def measure(runs: int = RUNS) -> list[float]:
    """Seconds of each run, in order; every run is a process of its own."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "prunec", "--help"], check=True, stdout=subprocess.DEVNULL
        )
        times.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    times = measure()
    median = statistics.median(times)
    verdict = "ok" if median < LIMIT_S else "TOO SLOW"
    print(
        f"prunec --help: median {median:.3f} s of {len(times)} runs "
        f"({min(times):.3f} to {max(times):.3f}), limit {LIMIT_S} s: {verdict}"
    )
    sys.exit(median >= LIMIT_S)
