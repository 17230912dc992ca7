"""SIGTERM as an interruption: what is half written goes away, as it does after Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """Somebody asked the process to end: a job queue, `timeout`, a shutdown."""


@contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM raises Terminated. Handlers of a host program are left alone."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    process = os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        if os.getpid() != process:  # a forked worker: nothing here is its own to clean up
            os._exit(128 + number)
        raise Terminated

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
