"""Blocks of grouped convolutions: what is kept, beside the published heuristic; joint and free.

    python tools/bench/groups.py [MODEL ...] [--reference FOLDER] [--groups 2,4,8]

MODEL: ONNX files for the table, by default ../shared/models/resnet20-cifar10.onnx beside the
repository. FOLDER holds gumi_resnet20_kept.json: what the published code kept of another training
of that network. Everything runs on one core; seconds are CPU time of the search alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pinned import ONE_THREAD
from verdict import Figure, markdown, report

from prunec.compiler.freedom import Freedom
from prunec.compiler.partition import Partition
from prunec.passes.regroup.blocks import FloatArray, kept
from prunec.passes.regroup.joint import Joint
from prunec.passes.regroup.permutations import permutation
from prunec.passes.regroup.permute import movable
from prunec.passes.regroup.rewrite import regroup
from prunec.passes.regroup.scored import Scored, free, scored_sites
from prunec.passes.regroup.sites import Site, group_sites
from prunec.runtime.compile import Settings
from prunec.runtime.kernel_scores import kernel_scores
from prunec.runtime.subject import Subject, open_model

SHARED = Path(__file__).resolve().parents[3] / "shared"
RESNET20 = SHARED / "models" / "resnet20-cifar10.onnx"
R8 = np.array(
    [
        [5, 7, 6, 5, 4, 6, 4, 9],
        [10, 4, 8, 5, 6, 9, 1, 1],
        [0, 8, 8, 9, 10, 8, 5, 8],
        [1, 6, 1, 9, 5, 4, 3, 8],
        [5, 6, 0, 6, 6, 6, 9, 7],
        [4, 4, 7, 1, 7, 7, 2, 1],
        [3, 4, 6, 4, 10, 1, 2, 2],
        [7, 3, 5, 2, 2, 1, 7, 1],
    ],
    np.float64,
)
C6 = np.array(
    [
        [9, 1, 8, 1, 2, 1],
        [1, 7, 1, 6, 1, 2],
        [2, 1, 1, 1, 9, 8],
        [8, 2, 9, 1, 1, 1],
        [1, 8, 2, 9, 1, 1],
        [1, 1, 2, 1, 7, 9],
    ],
    np.float64,
)
# (matrix, groups) -> how -> sum that is kept: of the published code, and the optimum for search
KNOWN: Sequence[tuple[str, FloatArray, int, Mapping[str, int]]] = (
    (
        "8 x 8",
        R8,
        2,
        {"same": 163, "sort": 165, "grps{iters=1}": 182, "grps{iters=2}": 174, "grps": 185},
    ),
    ("8 x 8", R8, 4, {"same": 93, "sort": 97, "grps{iters=1}": 108, "grps": 108}),
    ("6 x 6", C6, 3, {"grps{iters=1}": 72, "grps": 72}),
    ("8 x 8", R8, 2, {"search": 202}),
    ("8 x 8", R8, 4, {"search": 122}),
    ("6 x 6", C6, 3, {"search": 97}),
)


HEAD = (
    "model", "G", "convolutions", "as they stand", "grps{iters=10}", "free: search", "joint",
    "Gathers left, joint", "free s", "joint s",
)  # fmt: skip


def main() -> int:
    """Print the table of models and the figures with their bars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="*", metavar="MODEL")
    parser.add_argument("--reference", type=Path, default=SHARED / "reference")
    parser.add_argument("--groups", default="2,4,8", metavar="G,G")
    a = parser.parse_args()
    if any(os.environ.get(name) != "1" for name in ONE_THREAD):  # read when numpy is imported
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    figures = [
        Figure(
            f"{name}, G = {groups}, {spec}", kept(m, permutation(spec)(m, groups)), "", n, n, "g"
        )
        for name, m, groups, sums in KNOWN
        for spec, n in sums.items()
    ]
    reference = a.reference / "gumi_resnet20_kept.json"
    if reference.is_file() and RESNET20.is_file():
        figures += against_published(json.loads(reference.read_text()))
    else:
        print(f"SKIPPED: {reference} or {RESNET20} does not exist\n")
    for path in a.models or [RESNET20]:
        if path.is_file():
            rows = rows_of(path, [int(g) for g in a.groups.split(",")])
            print(markdown(HEAD, rows), flush=True)
        else:
            print(f"SKIPPED: {path} does not exist")
    return report(figures)


def against_published(published: Sequence[Any]) -> list[Figure]:
    """Mean kept fraction over the layers of the reference, for every G."""
    subject = open_model(RESNET20)
    scores = scores_of(subject, group_sites(subject.model, subject.facts, subject.graph))
    off = [abs(scores[name].sum() / total - 1) for name, _, _, total, _, _ in published]
    note = "the reference's weights were trained otherwise" if max(off) > 1e-6 else ""
    figures = [Figure("largest difference of a layer's sum", 100 * max(off), "%", note=note)]
    for groups in sorted({g for _, _, g, _, _, _ in published}):
        rows = [(name, shares) for name, _, g, _, _, shares in published if g == groups]
        layers = [scores[name] for name, _ in rows]
        theirs = float(np.mean([shares["GRPS10"] for _, shares in rows]))
        grps, _ = timed(layers, groups, "grps")
        found, seconds = timed(layers, groups, "search")
        bar = max(theirs, float(np.mean(grps)))
        name = f"ResNet-20, G = {groups}, "
        worse = sum(a < b for a, b in zip(found, grps, strict=True))
        figures += [
            Figure(f"{name}published code", 100 * theirs, "%", note="of its own weights"),
            Figure(f"{name}grps, same weights as search", 100 * float(np.mean(grps)), "%"),
            Figure(f"{name}search", 100 * float(np.mean(found)), "%", least=100 * bar),
            Figure(f"{name}layers where search is below grps", worse, "", most=0, form="d"),
            Figure(f"{name}search, all layers", seconds, "s", most=1),
        ]
    return figures


def timed(layers: Sequence[FloatArray], groups: int, spec: str) -> tuple[list[float], float]:
    """Kept fraction of every layer, and seconds."""
    search = permutation(spec)
    search(np.ones((32, 32)), groups)  # imports
    start = time.process_time()
    found = [search(layer, groups) for layer in layers]
    seconds = time.process_time() - start
    return [share(layer, own) for layer, own in zip(layers, found, strict=True)], seconds


def rows_of(path: Path, numbers: Sequence[int]) -> list[list[str]]:
    """A row of the table for each number of groups."""
    subject = open_model(path, freedom=Freedom(residual=True))
    graph = subject.graph
    sites = group_sites(subject.model, subject.facts, graph)
    scores = scores_of(subject, sites)
    may_move = np.flatnonzero(movable(graph)).tolist()
    rows = []
    for groups in numbers:
        fits = [s for s in sites if not (s.shape[0] % groups or s.shape[1] % groups)]
        own = scored_sites(fits, scores, {s.weight: groups for s in fits})
        same, grps = (free(own, permutation(spec)) for spec in ("same", "grps"))
        alone, alone_s = clocked(lambda own=own: free(own, permutation("search")))
        joint, joint_s = clocked(lambda own=own: Joint()(own, graph.edge_of_group(), may_move))
        left = len(regroup(subject.model, subject.facts, graph, joint).gathers)
        shares = [f"{mean_share(own, found):.4f}" for found in (same, grps, alone, joint)]
        rows.append([path.stem, str(groups), str(len(own)), *shares, str(left)])
        rows[-1] += [f"{alone_s:.1f}", f"{joint_s:.1f}"]
    return rows


def clocked(
    search: Callable[[], Mapping[str, Partition]],
) -> tuple[Mapping[str, Partition], float]:
    """What was found, and CPU seconds."""
    start = time.process_time()
    return search(), time.process_time() - start


def mean_share(own: Sequence[Scored], found: Mapping[str, Partition]) -> float:
    """Mean over convolutions of the fraction of their scores that is kept."""
    return float(np.mean([share(s.score, found[s.weight]) for s in own]))


def share(score: FloatArray, found: Partition) -> float:
    """The fraction of a score matrix that is in blocks."""
    return kept(score, found) / float(score.sum())


def scores_of(subject: Subject, sites: Sequence[Site]) -> Mapping[str, FloatArray]:
    """Norms of kernels, as published."""
    return kernel_scores(subject, sites, "magnitude", Settings(), lambda _: None)


if __name__ == "__main__":
    sys.exit(main())
