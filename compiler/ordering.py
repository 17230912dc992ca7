"""In which order a graph needs least memory, where the order of the file does badly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from prunec.compiler.buffers import Run, Sizes
from prunec.compiler.walk import needs_first

EXPANSIONS = 4000  # partial orders that the exact search may look at, per stretch
STEPS_SEEN = 400_000  # and steps that it may try in all of them together
GREEDY_STEPS = 3000  # longest stretch for the greedy order, which compares steps at every step
WINDOW = 32  # ready steps that the greedy order compares


def best_order(run: Run, sizes: Sizes) -> tuple[int, ...]:
    """Numbers of all steps in an order whose peak is below the file's; () where none is found.

    The graph falls into stretches between steps that everything else comes before or after. Their
    orders do not concern each other, so only a stretch with the highest peak is worth a search:
    exact for up to EXPANSIONS partial orders (best first over sets of steps that are done), else
    the best of a greedy order and two depth-first ones. Steps that take nothing more run as soon
    as they can. Near-linear in the number of steps.
    """
    work = _Work(run, sizes)
    stretches = [work.busy[a:b] for a, b in _stretches(work)]
    peaks, starts = work.peaks(stretches)
    most = max(peaks, default=0)
    seen: set[int] = set()
    while peaks:
        worst = max(range(len(peaks)), key=lambda k: (peaks[k], -k))
        better = None if worst in seen else work.improved(stretches[worst], starts[worst], most)
        if better is None:
            break
        seen.add(worst)
        stretches[worst], peaks[worst] = better
    if max(peaks, default=0) >= most:
        return ()
    return tuple(work.completed([s for stretch in stretches for s in stretch]))


def _stretches(work: _Work) -> Iterator[tuple[int, int]]:
    """Bounds of the stretches: each begins behind a step that is comparable to all others.

    A later step follows from step i when it needs one at or behind i; an earlier step leads to i
    when one at or before i needs it. What nothing needs and writes nothing can stay where it is.
    """
    order, needs = work.busy, work.needs
    place = {s: k for k, s in enumerate(order)}
    count = len(order)
    nearest = [max((place[p] for p in needs[s]), default=-1) for s in order]
    first_use = [count if work.run.steps[s].writes else k for k, s in enumerate(order)]
    for k in range(count - 1, -1, -1):
        for p in needs[order[k]]:
            first_use[place[p]] = k
    behind = [count] * (count + 1)  # nearest need of all later steps
    for k in range(count - 1, -1, -1):
        behind[k] = min(behind[k + 1], nearest[k])
    start, reach = 0, -1
    for k in range(count):
        if reach <= k <= behind[k + 1]:
            yield start, k + 1
            start = k + 1
        reach = max(reach, first_use[k])
    if start < count:
        yield start, count


@dataclass(slots=True)
class _State:
    """A point of a run. live: bytes; left: readers that each live buffer still has."""

    live: int
    left: dict[str, int]


class _Work:
    """A run as numbers of steps; lives inside `best_order`."""

    def __init__(self, run: Run, sizes: Sizes) -> None:
        self.run, self.sizes = run, sizes
        steps = run.steps
        # The others take no memory and leave none: they run right before what needs them.
        self.busy = [k for k, s in enumerate(steps) if s.reads or s.writes]
        reached: list[tuple[int, ...]] = []
        for step in steps:
            near = [(p,) if steps[p].reads or steps[p].writes else reached[p] for p in step.after]
            reached.append(tuple(sorted({q for own in near for q in own})))
        self.needs = {k: reached[k] for k in self.busy}
        self.readers = Counter(name for step in steps for name in step.reads)
        self.inner = {k: max(map(self._inner, s.bodies)) for k, s in enumerate(steps) if s.bodies}

    def _inner(self, body: Run) -> int:
        """Peak of a body, by itself."""
        work = _Work(body, self.sizes)
        peaks, _ = work.peaks([work.busy])
        return sum(self.sizes[name] for name in body.carried) + max(peaks)

    def move(self, s: int, left: Mapping[str, int]) -> tuple[int, int]:
        """By how many bytes running a step now raises what is live: during it, and after it."""
        step, stays, sizes = self.run.steps[s], self.run.stays, self.sizes
        ends = [b for b in step.reads if left.get(b) == 1 and b not in stays]
        taken: dict[str, str] = {}
        for read, write in step.reuses:
            new = write not in stays and write not in taken
            if new and read in ends and read not in taken.values():
                taken[write] = read
        made = sum([sizes[w] for w in step.writes])
        during = made - sum([sizes[r] for r in taken.values()])
        if s in self.inner:
            during = max(during, self.inner[s] + sum(sizes[h] for h in step.held))
        unread = [w for w in step.writes if w not in self.readers and w not in stays]
        return during, made - sum([sizes[b] for b in (*ends, *unread)])

    def execute(self, s: int, state: _State) -> int:
        """Run a step; the most that was live meanwhile."""
        during, after = self.move(s, state.left)
        most = state.live + during
        state.live += after
        step, left = self.run.steps[s], state.left
        for name in step.reads:
            if name in left:
                left[name] -= 1
                if not left[name] and name not in self.run.stays:
                    del left[name]
        for name in step.writes:
            if name in self.readers:
                left[name] = self.readers[name]
        return most

    def peaks(self, stretches: Sequence[Sequence[int]]) -> tuple[list[int], list[_State]]:
        """Most live bytes within each stretch, one after the other, and where each begins."""
        state = _State(0, {})
        out, starts = [], []
        for stretch in stretches:
            starts.append(_State(state.live, dict(state.left)))
            most = 0
            for s in stretch:
                most = max(most, self.execute(s, state))
            out.append(most)
        return out, starts

    def improved(
        self, stretch: Sequence[int], start: _State, peak: int
    ) -> tuple[list[int], int] | None:
        """An order of a stretch whose peak is lower, with that, if one is found."""
        within = set(stretch)
        needs = {s: [p for p in self.needs[s] if p in within] for s in stretch}
        search = _Search(self, stretch, needs, start)
        if len(stretch) < 3 or search.least() >= peak:
            return None
        complete, best = search.exact(peak)
        if not complete:
            tried = [search.deep(latest=True), search.deep(latest=False)]
            if len(stretch) <= GREEDY_STEPS:
                tried.append(search.greedy())
            best = min(tried, key=search.peak)  # the first of equals
        return (best, search.peak(best)) if best and search.peak(best) < peak else None

    def completed(self, order: Sequence[int]) -> list[int]:
        """All steps: those that take no memory come right before the first that needs them."""
        steps = self.run.steps
        return needs_first((*order, *range(len(steps))), lambda s: steps[s].after)


class _Search:
    """Orders of one stretch, which begins at `start`."""

    def __init__(
        self,
        work: _Work,
        stretch: Sequence[int],
        needs: Mapping[int, Sequence[int]],
        start: _State,
    ) -> None:
        self.work, self.stretch, self.needs, self.start = work, list(stretch), needs, start
        self.users: dict[int, list[int]] = {s: [] for s in stretch}
        for s in stretch:
            for p in needs[s]:
                self.users[p].append(s)

    def least(self) -> int:
        """A bound: any step needs what it reads and what it writes."""
        work, stays = self.work, self.work.run.stays
        most = 0
        for s in self.stretch:
            step = work.run.steps[s]
            could_go = {r for r, w in step.reuses if r not in stays and w not in stays}
            own = sum(work.sizes[b] for b in (*step.reads, *step.writes))
            most = max(most, own - max((work.sizes[r] for r in could_go), default=0))
        return most

    def peak(self, order: Sequence[int]) -> int:
        """Most live bytes in this order."""
        state = _State(self.start.live, dict(self.start.left))
        return max(self.work.execute(s, state) for s in order)

    def exact(self, below: int) -> tuple[bool, list[int]]:
        """Whether the search came to an end, and the best order if its peak is below a bound.

        Best first by the peak so far; what is live depends only on the set of steps that are done.
        """
        bit = {s: 1 << k for k, s in enumerate(self.stretch)}
        needed = {s: sum(bit[p] for p in self.needs[s]) for s in self.stretch}
        queue: list[tuple[int, int, int]] = [(0, 0, 0)]  # peak, -steps done, set of them
        states = {0: _State(self.start.live, dict(self.start.left))}
        came: dict[int, tuple[int, int]] = {}
        reached, closed = {0: 0}, set[int]()
        while queue:
            peak, minus, done = heappop(queue)
            if done in closed:
                continue
            if peak >= below:
                return True, []
            if -minus == len(self.stretch):
                return True, _back(came, done)
            closed.add(done)
            if len(closed) > EXPANSIONS or len(closed) * len(self.stretch) > STEPS_SEEN:
                return False, []
            state = states.pop(done)
            ready = (s for s in self.stretch if not done & bit[s] and not needed[s] & ~done)
            moves = [(s, *self.work.move(s, state.left)) for s in ready]
            free = [m for m in moves if m[2] <= 0 and state.live + m[1] <= peak]
            for s, during, _ in free[:1] or moves:
                then, most = done | bit[s], max(peak, state.live + during)
                if then in closed or most >= reached.get(then, most + 1):
                    continue
                reached[then], came[then] = most, (done, s)
                if then not in states:
                    states[then] = _State(state.live, dict(state.left))
                    self.work.execute(s, states[then])
                heappush(queue, (most, minus - 1, then))
        return True, []

    def greedy(self) -> list[int]:
        """Always the ready step after which least is live, among those that keep the peak low."""
        state, peak = _State(self.start.live, dict(self.start.left)), 0
        waits = {s: len(self.needs[s]) for s in self.stretch}
        ready = [s for s in self.stretch if not waits[s]]
        order: list[int] = []
        while ready:
            ranked = []
            for s in ready[:WINDOW]:
                during, after = self.work.move(s, state.left)
                ranked.append((max(peak, state.live + during), after, s))
            s = min(ranked)[2]
            ready.remove(s)
            peak = max(peak, self.work.execute(s, state))
            order.append(s)
            for user in self.users[s]:
                waits[user] -= 1
                if not waits[user]:
                    ready.append(user)
        return order

    def deep(self, *, latest: bool) -> list[int]:
        """Depth first from the ends: what a step needs is made right before it.

        latest: of what it needs, the one that stands last in the file is made first; this is how
        onnxruntime orders a graph.
        """
        done: set[int] = set()
        order: list[int] = []
        ends = [s for s in self.stretch if not self.users[s]]
        for end in ends:
            pending = [(end, False)]
            while pending:
                s, leave = pending.pop()
                if leave:
                    order.append(s)
                elif s not in done:
                    done.add(s)
                    pending.append((s, True))
                    pending += [(p, False) for p in sorted(self.needs[s], reverse=not latest)]
        return order


def _back(came: Mapping[int, tuple[int, int]], done: int) -> list[int]:
    order: list[int] = []
    while done:
        done, s = came[done]
        order.append(s)
    return order[::-1]
