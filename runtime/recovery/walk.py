"""Values of a model on the same samples again and again, without starting from the inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import ModelError
from prunec.compiler.walk import bodies, nodes
from prunec.runtime.inputs import Array, Feeds
from prunec.runtime.recovery.part import part
from prunec.runtime.session import Session, make_session


class Walk:
    """Runs parts of a model over batches, and keeps what later parts read while there is room.

    feeds: gives the batches anew with every call, always the same. limit: bytes of values that may
    be kept; batches for which there is no room are run from the graph's inputs. Weights of the
    model may change between runs: say which with `forget`.
    """

    def __init__(
        self,
        model: ir.Model,
        feeds: Callable[[], Iterator[Feeds]],
        limit: int,
        provider: str = "cpu",
        threads: int = 1,
    ) -> None:
        self.model = model
        self._feeds = feeds
        self._limit = limit
        self._provider, self._threads = provider, threads
        self._graph = _Order(model)
        self._done: set[int] = set()
        self._kept: list[dict[str, Array]] = []  # of the first batches; all with the same names
        self._known: set[str] = set()
        self._number: int | None = None  # of batches, once they were all seen
        self.later: set[str] = set()

    def run(
        self, wanted: Sequence[str], changing: Sequence[str] = ()
    ) -> Iterator[Mapping[str, Array]]:
        """The wanted values of each batch. Take them all: what is kept grows as they are taken.

        changing: stored tensors that will be written next; what depends on them is not kept, what
        leads to it is.
        """
        names = list(dict.fromkeys(wanted))
        self.later -= set(names)
        executed = self._graph.needed(names, self._known)
        unsettled, behind = self._graph.behind(changing)
        self._done |= executed - behind
        live = self._live((self._known | self._graph.outputs_of(executed)) - unsettled)
        fed = self._graph.read_by(executed) & self._graph.inputs | set(names) & self._graph.inputs
        anew = not fed <= self._known  # something that was forgotten starts at the inputs
        self._known = live
        sessions: dict[bool, Session | None] = {}
        room, number = self._limit, 0
        kept: list[dict[str, Array]] = []
        stream: Iterator[Feeds] | None = None
        while True:
            have: Mapping[str, Array] | None = None
            held = number < len(self._kept)
            if held:
                have, self._kept[number] = self._kept[number], {}
            if anew or not held:
                stream = stream or _after(self._feeds(), number)
                feeds = next(stream, None)
                have = None if feeds is None else {**feeds, **(have or {})}
            if have is None:
                break
            asked = sorted((set(names) | live) - have.keys())
            if held not in sessions:
                sessions[held] = self._session(have, asked)
            made = {**have, **_run(sessions[held], have, asked)}
            live -= {name for name in live if not isinstance(made[name], np.ndarray)}
            own = {name: made[name] for name in sorted(live)}
            size = sum(array.nbytes for array in own.values())
            if size <= room and len(kept) == number:
                room -= size
                kept.append(own)
            yield {name: made[name] for name in names}
            number += 1
            if held and number == len(self._kept) == self._number:
                break
        self._number = number
        self._kept = kept

    def forget(self, names: Iterable[str]) -> None:
        """Drop what depends on these stored tensors."""
        stale, behind = self._graph.behind(names)
        self._done -= behind
        self._known -= stale
        for batch in self._kept:
            for name in stale & batch.keys():
                del batch[name]

    def _live(self, computed: set[str]) -> set[str]:
        """Of these values, what is still needed. Graph inputs are fed, and kept like others."""
        inputs = self._graph.inputs
        return {
            name
            for name in (computed & self._graph.flowing) | inputs
            if name in self.later or not self._graph.readers.get(name, set()) <= self._done
        }

    def _session(self, have: Mapping[str, Array], asked: Sequence[str]) -> Session | None:
        if not asked:
            return None
        made = part(self.model, have, asked)
        try:
            return make_session(made, provider=self._provider, threads=self._threads)
        except ModelError:  # onnxruntime's optimiser moves quantisers across an end of the part
            return make_session(
                made, optimise=False, provider=self._provider, threads=self._threads
            )


def _run(
    session: Session | None, have: Mapping[str, Array], asked: Sequence[str]
) -> dict[str, Array]:
    if session is None:
        return {}
    feeds = {spec.name: have[spec.name] for spec in session.inputs}
    return dict(zip(asked, session.run(feeds, asked), strict=True))


def _after(stream: Iterator[Feeds], number: int) -> Iterator[Feeds]:
    for _ in range(number):
        next(stream, None)
    return stream


class _Order:
    """Who makes and who reads each value of the main graph, bodies counted to their node."""

    def __init__(self, model: ir.Model) -> None:
        graph = model.graph
        stored = set(graph.initializers)
        self.inputs = {str(v.name) for v in graph.inputs if v.name not in stored}
        self.flowing = set(self.inputs)  # what depends on the data
        self.maker: dict[str, int] = {}
        self.readers: dict[str, set[int]] = {}
        self.reads: list[list[str]] = []
        self.makes: list[list[str]] = []
        for place, node in enumerate(graph):
            read = [str(v.name) for v in node.inputs if v is not None]
            for body in bodies(node):
                read += [str(v.name) for n in nodes(body) for v in n.inputs if v is not None]
                read += [str(v.name) for v in body.outputs]
            made = [str(v.name) for v in node.outputs if v.name]
            self.reads.append(read)
            self.makes.append(made)
            self.maker |= dict.fromkeys(made, place)
            if not self.flowing.isdisjoint(read):
                self.flowing |= set(made)
            for name in read:
                self.readers.setdefault(name, set()).add(place)

    def needed(self, wanted: Iterable[str], given: set[str]) -> set[int]:
        """Nodes that must run for these values."""
        found: set[int] = set()
        pending = [name for name in wanted if name not in given]
        while pending:
            place = self.maker.get(pending.pop())
            if place is None or place in found:
                continue
            found.add(place)
            pending += [name for name in self.reads[place] if name not in given]
        return found

    def read_by(self, places: Iterable[int]) -> set[str]:
        """What these nodes read."""
        return {name for place in places for name in self.reads[place]}

    def outputs_of(self, places: Iterable[int]) -> set[str]:
        """What these nodes make."""
        return {name for place in places for name in self.makes[place]}

    def behind(self, names: Iterable[str]) -> tuple[set[str], set[int]]:
        """The values and the nodes that depend on these."""
        values: set[str] = set()
        found: set[int] = set()
        pending = list(names)
        while pending:
            for place in self.readers.get(pending.pop(), ()):
                if place not in found:
                    found.add(place)
                    values |= set(self.makes[place])
                    pending += self.makes[place]
        return values, found
