"""Run a command on one core, single-threaded, and say what it took."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
NO_VARIABLES: Mapping[str, str] = {}
SAMPLE_S = 0.01


class CommandError(Exception):
    """The command ended with another exit code than 0."""


@dataclass(frozen=True, slots=True)
class Usage:
    """seconds: wall clock. cpu: user and system seconds. peak: bytes of resident memory.

    peak_anonymous: bytes that do not belong to a mapped file; sampled, so a short peak may hide.
    """

    stdout: str
    seconds: float
    cpu: float
    peak: int
    peak_anonymous: int


def pinned(command: Sequence[str], variables: Mapping[str, str] = NO_VARIABLES) -> Usage:
    """Run `command` on one core. Raises CommandError with the last line of its stderr.

    A process starts as a copy of its parent, whose resident memory the kernel counts as the
    child's peak: callers that read `peak` must not import anything large themselves.
    """
    cores = os.sched_getaffinity(0)
    environment = {**os.environ, **ONE_THREAD, **variables}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        os.sched_setaffinity(0, {max(cores)})  # the child inherits it
        try:
            process = subprocess.Popen(list(command), stdout=out, stderr=err, env=environment)
        finally:
            os.sched_setaffinity(0, cores)
        watch = _Anonymous(process.pid)
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        watch.join()
        out.seek(0)
        err.seek(0)
        if process.returncode:
            last = (err.read().strip().splitlines() or ["no message"])[-1]
            raise CommandError(f"{' '.join(command)}: exit {process.returncode}: {last}")
        return Usage(
            stdout=out.read(),
            seconds=seconds,
            cpu=usage.ru_utime + usage.ru_stime,
            peak=usage.ru_maxrss * 1024,
            peak_anonymous=watch.peak,
        )


class _Anonymous(threading.Thread):
    """Samples the anonymous memory of a process until it ends."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._status = Path(f"/proc/{pid}/status")

    def run(self) -> None:
        """Read /proc until the process is gone or has no memory left."""
        while True:
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            now = [int(line.split()[1]) for line in lines if line.startswith("RssAnon:")]
            if not now:
                return
            self.peak = max(self.peak, now[0] * 1024)
            time.sleep(SAMPLE_S)
