"""The published pairwise instances as problems of the kind that a model gives.

Two hyperedges per activation after an addition (written and read channels), one for any other, and
joins from the (s, t) pairs, with the zero padding at the end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.cost import Linear, Polynomial
from prunec.compiler.hypergraph import Join
from prunec.compiler.pairwise import Block, PairwiseProblem
from prunec.compiler.problem import Limit

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference"
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """A chain of layers: arrays[l] is (channels of activation l + 1, channels of activation l).

    costs: per layer, of one kept pair. skips: (s, t): activation t is the sum of what layer t - 1
    writes and of activation s, zero-padded at the end. published: the objective of the greedy.
    """

    name: str
    arrays: tuple[Matrix, ...]
    costs: tuple[int, ...]
    skips: tuple[tuple[int, int], ...]
    limit: float
    published: float
    keeps_image: bool

    @property
    def widths(self) -> list[int]:
        """Channels of every activation."""
        return [self.arrays[0].shape[1], *(len(a) for a in self.arrays)]


class _Groups:
    """Channels (activation, written or read, position) as groups of hyperedges."""

    def __init__(self, widths: Sequence[int]) -> None:
        self.parent = {
            (act, side, j): (act, side, j)
            for act, width in enumerate(widths)
            for side in "uv"
            for j in range(width)
        }

    def root(self, key: tuple[int, str, int]) -> tuple[int, str, int]:
        """The channel that stands for all that are the same."""
        while self.parent[key] != key:
            key = self.parent[key]
        return key

    def tie(self, a: tuple[int, str, int], b: tuple[int, str, int]) -> None:
        """Make two channels the same group."""
        first, second = sorted((self.root(a), self.root(b)))
        self.parent[second] = first


def problem_of(instance: Instance, *, coupled: bool, least: int) -> PairwiseProblem:
    """The instance with at least `least` channels in every activation (image: all, if kept).

    coupled: one mask per stage, as the reference's coupled optima have it; a zero-padded shortcut
    starts a new stage.
    """
    widths, ties = instance.widths, _tied(instance, coupled)
    # Groups with the same set of (activation, side) are a hyperedge.
    axes: dict[tuple[int, str, int], list[tuple[int, str]]] = {}
    for key in ties.parent:
        axes.setdefault(ties.root(key), []).append(key[:2])
    edges: dict[tuple[tuple[int, str], ...], list[tuple[int, str, int]]] = {}
    for root, own in axes.items():
        edges.setdefault(tuple(own), []).append(root)
    number = {
        root: g for g, root in enumerate(root for members in edges.values() for root in members)
    }
    edge_of = {root: e for e, members in enumerate(edges.values()) for root in members}
    groups = {
        (act, side): np.array([number[ties.root((act, side, j))] for j in range(width)])
        for act, width in enumerate(widths)
        for side in "uv"
    }
    forms = {}
    for (act, side), _ in groups.items():
        own = [edge_of[ties.root((act, side, j))] for j in range(widths[act])]
        forms[act, side] = Linear(0, tuple((e, 1) for e in sorted(set(own))))
    sizes = [len(members) for members in edges.values()]
    image = {e for e, _ in forms[0, "u"].terms} if instance.keeps_image else set()
    blocks = _blocks(instance, groups, sizes)
    joins = [] if coupled else _joins(instance, groups)
    return PairwiseProblem(
        names=tuple("+".join(f"{side}{act}" for act, side in own) for own in edges),
        linear=np.zeros(sum(sizes)),
        blocks=blocks,
        levels=tuple(
            np.arange(n if e in image else min(least, n), n + 1) for e, n in enumerate(sizes)
        ),
        costs={
            "flops": Polynomial.of(
                (c, (forms[layer + 1, "u"], forms[layer, "v"]))
                for layer, c in enumerate(instance.costs)
            )
        },
        limits=(Limit("flops", math.floor(instance.limit)),),
        joins=tuple(joins),
    )


def _tied(instance: Instance, coupled: bool) -> _Groups:
    """What is written and read at once, and in coupled instances whole stages."""
    widths = instance.widths
    after = {t for _, t in instance.skips}
    ties = _Groups(widths)
    for act, width in enumerate(widths):
        if act not in after or coupled:
            for j in range(width):
                ties.tie((act, "u", j), (act, "v", j))
    for s, t in instance.skips if coupled else ():
        for j in range(widths[s] if widths[s] == widths[t] else 0):
            ties.tie((s, "v", j), (t, "v", j))
    return ties


def _blocks(
    instance: Instance, groups: dict[tuple[int, str], NDArray[np.int64]], sizes: Sequence[int]
) -> tuple[Block, ...]:
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    total: dict[tuple[int, int], Matrix] = {}
    for layer, array in enumerate(instance.arrays):
        rows, columns = groups[layer + 1, "u"], groups[layer, "v"]
        row_edges = np.searchsorted(firsts, rows, "right") - 1
        column_edges = np.searchsorted(firsts, columns, "right") - 1
        for e in np.unique(row_edges).tolist():
            for f in np.unique(column_edges).tolist():
                part = np.zeros((sizes[e], sizes[f]))
                mine, theirs = np.flatnonzero(row_edges == e), np.flatnonzero(column_edges == f)
                part[np.ix_(rows[mine] - firsts[e], columns[theirs] - firsts[f])] = array[
                    np.ix_(mine, theirs)
                ]
                key, part = ((e, f), part) if e <= f else ((f, e), part.T)
                total[key] = total[key] + part if key in total else part
    assert all(e != f for e, f in total), "a layer from an activation to itself"
    return tuple(Block(e, f, np.ascontiguousarray(part)) for (e, f), part in total.items())


def _joins(instance: Instance, groups: dict[tuple[int, str], NDArray[np.int64]]) -> list[Join]:
    """``v_t <= u_t + v_s``, ``u_t <= v_t``; what is zero-padded of activation s is not there."""
    joins = []
    for s, t in instance.skips:
        out, written, passed = groups[t, "v"], groups[t, "u"], groups[s, "v"]
        n = len(passed)
        joins.append(Join(f"add{t}", out[:n], (written[:n], passed), (True, False)))
        if len(out) > n:
            joins.append(Join(f"add{t}.padded", out[n:], (written[n:],), (True,)))
    return joins


def read_npz(path: Path) -> Instance:
    """A ResNet instance; the published greedy's objective is in the .json of the same name."""
    data = np.load(path)
    layers = sum(name.startswith("A") for name in data.files)
    published = json.loads(path.with_suffix(".json").read_text())["objective"]
    return Instance(
        name=path.stem,
        arrays=tuple(data[f"A{k}"].astype(np.float64) for k in range(layers)),
        costs=tuple(int(c) for c in data["val_list"]),
        skips=tuple(zip(data["s_list"].tolist(), data["t_list"].tolist(), strict=True)),
        limit=float(data["limit"]),
        published=published,
        keeps_image=True,
    )


def read_tiny(path: Path) -> list[tuple[Instance, float, float | None]]:
    """Tiny instances with their proven optima: decoupled and, where it is given, coupled."""
    body = json.loads(path.read_text())
    out = []
    for k, item in enumerate(body if isinstance(body, list) else [body]):
        several = isinstance(body, list)
        instance = Instance(
            name=f"{path.stem}[{k}]" if several else path.stem,
            arrays=tuple(np.array(a, np.float64) for a in item["arrays"]),
            costs=tuple(int(c) for c in item["vals"]),
            skips=tuple(zip(item["s_list"], item["t_list"], strict=True)),
            limit=item["limit"],
            published=item["greedy"][0] if several else item["greedy_min1_obj"],
            keeps_image=not several,
        )
        optima = (item["milp"][0], item["coupled"][0]) if several else (item["milp_obj"], None)
        out.append((instance, *optima))
    return out
