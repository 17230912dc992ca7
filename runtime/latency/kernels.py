"""Times of the kernels that onnxruntime runs for a model, by node of the dense graph."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.errors import ModelError
from prunec.compiler.latency import CALM
from prunec.runtime.bench import Runner, without_garbage_collection
from prunec.runtime.inputs import Feeds, bound_inputs, random_feeds
from prunec.runtime.latency.slim import MARK, save_marked, slim, write_marked
from prunec.runtime.session import Session, make_session
from prunec.runtime.subject import Subject

REPEATS = 3  # runs of a model in a row; the first fetches its weights into the caches
ODD = 1.5  # standard deviations from the mean beyond which a run was disturbed; as published
PROBES = 4  # times REPEATS runs of the probe in each round
# Of what the profiler says, as much stays: nothing takes no time, and a fit to relative errors
# would believe a zero more than all the rest.
LEAST_SHARE = 0.1
NO_NODE = -1  # what runs before the first node that has a name

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Where:
    """What runs the models: provider "cpu" or "cuda", threads of an operator."""

    provider: str = "cpu"
    threads: int = 1


def calm(times: Times) -> float:
    """What something takes when it is let alone: the lower quartile of the undisturbed runs.

    Other processes only ever add, and a time slice of theirs can hit the same kernel of every
    other run, so that the median is theirs too.
    """
    return float(np.quantile(undisturbed(times), CALM))


def undisturbed(times: Times) -> Times:
    """Without the runs with ``|x - mean| / std >= 1.5``; never empty.

    One filter is not enough on a shared machine, where one run in ten may take ten times as long
    and hide the next: the rest is filtered again until nothing is odd, but half of it stays.
    """
    kept = np.sort(times)
    while len(kept) > max(2, len(times) // 2):
        spread = kept.std()
        calm = kept[np.abs(kept - kept.mean()) < ODD * spread] if spread > 0 else kept
        if len(calm) == len(kept) or len(calm) < max(2, len(times) // 2):
            break
        kept = calm
    return kept


class Probe:
    """A small model that tells what the profiler adds to a kernel, and takes along what it misses.

    Its own work makes kernels longer, by an amount that changes with what else the machine does;
    what lies between kernels is in none of them.
    """

    def __init__(self, subject: Subject, counts: Sequence[int], where: Where, folder: Path) -> None:
        path = folder / "probe.onnx"
        write_marked(subject, counts, path)
        self._feeds = _feeds(subject)
        self._plain = Runner(_session(path, where), self._feeds)
        self._traced = _session(path, where, folder / "probe")
        self._taken: list[float] = []
        self._plain.sample(1)
        path.unlink()

    def run(self) -> None:
        """One round."""
        for _ in range(PROBES):
            for _ in range(REPEATS):
                self._traced.run(self._feeds)
            self._plain.sample(1)
            self._taken.append(self._plain.sample(REPEATS) * 1e9)

    def overhead(self) -> float:
        """Nanoseconds per kernel."""
        events = json.loads(Path(self._traced.native.end_profiling()).read_text(encoding="utf-8"))
        runs = _runs(events)
        traced = sum(calm(_warm(times)) for _, times in runs)
        return (traced - calm(np.array(self._taken))) / max(len(runs), 1)


def kernel_times(
    subject: Subject,
    group: Sequence[Sequence[int]],
    where: Where,
    rounds: int,
    probe: Sequence[int],
) -> list[dict[int, float]]:
    """Nanoseconds per node of the dense graph, for each slim model of a group.

    group: kept counts per model. Their runs are interleaved, so that what slows the machine down
    for a while slows them all; the first of `REPEATS` runs doesn't count, odd ones neither, of the
    rest the lower quartile does. A fused kernel counts with one of the nodes that it replaces.
    probe: kept counts of the model that is the `Probe`.
    """
    models = [slim(subject, counts) for counts in group]
    return model_times(subject, models, where, rounds, probe)


def model_times(
    subject: Subject,
    models: Sequence[ir.Model],
    where: Where,
    rounds: int,
    probe: Sequence[int],
) -> list[dict[int, float]]:
    """The same for models that were rewritten from the dense one; these are renamed in place."""
    feeds = _feeds(subject)
    with TemporaryDirectory(prefix="prunec-") as text, ExitStack() as stack:
        small = Probe(subject, probe, where, Path(text))
        sessions: list[Session] = []
        for k, model in enumerate(models):
            path = Path(text) / f"{k}.onnx"
            save_marked(subject, model, path)
            sessions.append(_session(path, where, Path(text) / f"trace{k}"))
            path.unlink()
        stack.enter_context(without_garbage_collection())
        for _ in range(1 + rounds):
            small.run()
            for session in sessions:
                for _ in range(REPEATS):
                    session.run(feeds)
        overhead = small.overhead()
        traces = [Path(session.native.end_profiling()) for session in sessions]
        return [by_node(json.loads(t.read_text(encoding="utf-8")), overhead) for t in traces]


def _session(path: Path, where: Where, trace: Path | None = None) -> Session:
    try:
        return make_session(path, provider=where.provider, threads=where.threads, trace=trace)
    except ModelError as error:
        raise ModelError(str(error).replace(str(path), "a slim version of the model")) from error


def _feeds(subject: Subject) -> Feeds:
    return random_feeds(bound_inputs(subject.model, subject.facts), shapes=subject.shapes)


def by_node(events: Sequence[Mapping[str, Any]], overhead: float = 0.0) -> dict[int, float]:
    """Nanoseconds per marked node from the events of onnxruntime's profiler.

    A kernel without a mark was put in: what brings an input into another layout belongs to the
    node after it, all others to the one before. Kernels inside of bodies count with their node.
    """
    out: dict[int, float] = {}
    waiting, last = 0.0, NO_NODE
    for name, times in _runs(events):
        raw = calm(_warm(times))
        taken = max(raw - overhead, LEAST_SHARE * raw)
        mark = MARK.search(name)
        if mark is None and name.startswith("ReorderInput"):
            waiting += taken
            continue
        last = int(mark[1]) if mark else last
        out[last] = out.get(last, 0.0) + taken + waiting
        waiting = 0.0
    if waiting:
        out[last] = out.get(last, 0.0) + waiting
    return out


def _runs(events: Sequence[Mapping[str, Any]]) -> list[tuple[str, Times]]:
    """Name and nanoseconds of every run of each kernel, in the order in which they run."""
    runs: dict[tuple[str, str], list[float]] = {}
    for event in _outermost(events):
        key = (event["args"].get("node_index", ""), event["name"])
        # A microsecond is the unit, and what is below is cut off.
        runs.setdefault(key, []).append(event["dur"] * 1e3 + 500)
    return [(name, np.array(times)) for (_, name), times in runs.items()]


def _warm(times: Times) -> Times:
    """Without the first round, and the first run of each round."""
    rounds = len(times) // REPEATS
    if rounds < 2 or len(times) % REPEATS:
        return times  # not one kernel a run
    return times.reshape(rounds, REPEATS)[1:, 1:].ravel()


def _outermost(events: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Kernel events that lie in no other one, by time."""
    kernels = [
        e for e in events if e.get("cat") == "Node" and str(e["name"]).endswith("_kernel_time")
    ]
    end = -1.0
    for event in sorted(kernels, key=lambda e: (e["ts"], -e["dur"])):
        if event["ts"] + event["dur"] <= end and event["ts"] < end:
            continue
        end = max(end, event["ts"] + event["dur"])
        yield event
