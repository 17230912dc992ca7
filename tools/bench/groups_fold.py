"""Figure 3 of grouped convolutions: Gathers left, and latency folded and unfolded against dense.

    python tools/bench/groups_fold.py MODEL... [--groups 2,4,8] [--rounds 30] [--provider cpu]

CPU, one thread, batch 1, samples interleaved. Every dense convolution whose channels G divides
becomes a grouped one, by magnitude. joint: one order per hyperedge; free: every convolution has
blocks of its own, and Gathers stand where orders differ; unfolded: the same free blocks between
two Gathers each, as published. Times are in ms, ratios are of the dense model's time by theirs.
MODEL, for the published figure, is full-size torchvision networks (random weights):

    python ../shared/corpus/make.py OUT --source torchvision --full-size resnet50 vgg16 densenet121
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from verdict import markdown

from prunec.compiler.freedom import Freedom
from prunec.compiler.partition import Partition
from prunec.frontends.onnx import save
from prunec.passes.regroup.joint import Joint
from prunec.passes.regroup.permutations import permutation
from prunec.passes.regroup.permute import movable
from prunec.passes.regroup.rewrite import Regrouped, regroup
from prunec.passes.regroup.scored import Scored, free, scored_sites
from prunec.passes.regroup.sites import group_sites
from prunec.runtime.bench import BenchResult, bench
from prunec.runtime.compile import Settings
from prunec.runtime.kernel_scores import kernel_scores
from prunec.runtime.subject import Subject, open_model

HEAD = (
    "model", "G", "grouped", "ends", "kept joint / free", "Gathers joint / free", "dense ms",
    "joint", "free", "unfolded",
)  # fmt: skip


def forms(subject: Subject, groups: int) -> tuple[dict[str, Regrouped], list[float], int]:
    """The grouped models by name; mean kept shares, joint and free; how many convolutions."""
    graph = subject.graph
    sites = [
        site
        for site in group_sites(subject.model, subject.facts, graph)
        if not any(n % groups for n in site.shape[:2])
    ]
    scores = kernel_scores(subject, sites, "magnitude", Settings(), lambda _: None)
    scored = scored_sites(sites, scores, {site.weight: groups for site in sites})
    can_move = np.flatnonzero(movable(graph)).tolist()
    joint = Joint()(scored, graph.edge_of_group(), can_move)
    own = free(scored, permutation("grps{iters=2}"))
    found = {
        name: regroup(subject.model, subject.facts, graph, blocks, folded=name != "unfolded")
        for name, blocks in (("joint", joint), ("free", own), ("unfolded", own))
    }
    return found, [kept(scored, joint), kept(scored, own)], len(sites)


def kept(scored: tuple[Scored, ...], blocks: Mapping[str, Partition]) -> float:
    """Mean over the weights of the share of the score that lies in the blocks."""
    shares = [s.score[blocks[s.weight].mask()].sum() / s.score.sum() for s in scored]
    return float(np.mean(shares))


def row(path: Path, subject: Subject, groups: int, a: argparse.Namespace) -> list[str]:
    """One line of the table; every form is timed in the same interleaved run."""
    found, shares, count = forms(subject, groups)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, form in found.items():
            files.append(Path(folder) / f"{name}.onnx")
            save(form.model, files[-1])
        result = bench([path, *files], provider=a.provider, rounds=a.rounds, seconds=a.seconds)
    return [
        path.name.removeprefix("torchvision.").split(".")[0],
        str(groups),
        str(count),
        str(found["unfolded"].sides),
        " / ".join(f"{share:.3f}" for share in shares),
        f"{len(found['joint'].gathers)} / {len(found['free'].gathers)}",
        f"{1e3 * result.models[0].median_s:.1f}",
        *times(result),
    ]


def times(result: BenchResult) -> list[str]:
    """Median ms, speed-up with its interval, and that of the fastest runs, of all but dense."""
    dense = result.models[0].fastest_s
    return [
        f"{1e3 * t.median_s:.1f} = {r.ratio:.2f}x ({r.low:.2f} to {r.high:.2f}; "
        f"fastest {dense / t.fastest_s:.2f})"
        for t, r in zip(result.models[1:], result.ratios, strict=True)
    ]


def main() -> int:
    """Print the table; 1 if a joint form has a Gather."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--groups", default="2,4,8")
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=60.0, help="of measuring, per line")
    a = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = []
    for path in a.models:
        subject = open_model(path, freedom=Freedom(residual=True))
        for groups in map(int, a.groups.split(",")):
            rows.append(row(path, subject, groups, a))
            print(*rows[-1], sep="  ", flush=True)
    print(markdown(HEAD, rows))
    return int(any(not line[5].startswith("0 ") for line in rows))


if __name__ == "__main__":
    sys.exit(main())
