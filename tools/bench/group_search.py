"""Numbers of groups under a budget of parameters: ours beside the published local search.

    python tools/bench/group_search.py [--model ../shared/models/resnet20-cifar10.onnx]

Every dense convolution of ResNet-20 may be grouped, no channel leaves. Mean kept is the published
measure: the mean over all convolutions of the share of the kernels' L2 norms that lies in the
blocks. Parameters are counted on the rewritten model.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from verdict import Figure, report

from prunec.compiler.constants import attribute
from prunec.compiler.ops import op_key
from prunec.compiler.walk import nodes
from prunec.passes.grouping import Grouping
from prunec.passes.options import Options
from prunec.passes.pipeline import decide, limits_of, plan_of, score
from prunec.passes.regroup.blocks import FloatArray, kept
from prunec.passes.regroup.candidates import Bounds
from prunec.passes.regroup.choosers import searched_dials
from prunec.passes.regroup.permutations import permutation
from prunec.passes.regroup.rewrite import regroup
from prunec.passes.regroup.shares import shares_of
from prunec.passes.regroup.sites import Site, group_sites, stored_values
from prunec.runtime.subject import Subject, open_model, reopened

SHARED = Path(__file__).resolve().parents[3] / "shared"
BARS = {140_000: 0.818, 100_000: 0.763}  # parameters -> mean kept of the mended published search
WAYS = (
    ("published, mended", "max-cost", "grps", 4),
    ("published, any width", "max-cost", "grps", 1),
    ("ours, same blocks", "auto{equal=true}", "grps", 4),
    ("ours", "auto{equal=true}", "search", 1),
)


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A model with what its kernels are worth."""

    subject: Subject
    sites: tuple[Site, ...]
    scores: dict[str, FloatArray]

    @property
    def convolutions(self) -> int:
        """How many there are with one group, grouped or not."""
        return sum(
            op_key(node) == "Conv" and attribute(node, "group", 1) == 1
            for node in nodes(self.subject.model.graph)
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What a search ended with: parameters of the rewritten model, mean and overall kept share."""

    params: int
    mean: float
    overall: float
    seconds: float
    groups: tuple[int, ...]


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=SHARED / "models/resnet20-cifar10.onnx")
    arguments = parser.parse_args()
    if not arguments.model.exists():
        print(f"skipped: {arguments.model} is absent")
        return 0
    network = _network(arguments.model)
    figures = []
    for limit, bar in BARS.items():
        for name, conv, perm, width in WAYS:
            found = _search(network, limit, Grouping(conv=conv, perm=perm, min_width=width))
            title = f"{name}, {limit / 1e6:g} M"
            note = f"{found.overall:.3f} of all, {found.seconds:.1f} s, G {_runs(found.groups)}"
            ours = name == "ours"
            figures.append(Figure(title, found.mean, "kept", bar if ours else None, note=note))
            figures.append(
                Figure(f"{title}: parameters", found.params, "", most=limit, form=",.0f")
            )
    return report(figures)


def _network(path: Path) -> Network:
    subject = open_model(path)
    sites = group_sites(subject.model, subject.facts, subject.graph)
    stored = stored_values(subject.model)
    scores = {}
    for site in sites:
        tensor = stored[site.weight].const_value
        assert tensor is not None, site.weight
        flat = tensor.numpy().astype(np.float64).reshape(*site.shape[:2], -1)
        scores[site.weight] = np.sqrt((flat**2).sum(2))
    return Network(subject, sites, scores)


def _search(network: Network, limit: int, grouping: Grouping) -> Found:
    subject, start = network.subject, time.perf_counter()
    options = Options(channels=False, grouping=grouping)
    limits = limits_of(subject.graph, f"params={limit}")
    find = permutation(grouping.perm)
    shares = shares_of(network.sites, network.scores, Bounds(grouping.min_width), find)
    dials = searched_dials(subject.graph, network.sites, limits, options, shares, network.scores)
    values = score(subject.model, subject.graph, options)
    choice = decide(subject.graph, values, limits, options, dials=dials)
    plan = plan_of(subject.graph, choice, limits, options, subject.digest)
    numbers = choice.chosen("groups")
    blocks = {name: find(network.scores[name], groups) for name, groups in numbers.items()}
    seconds = time.perf_counter() - start
    written = regroup(subject.model, subject.facts, subject.graph, blocks).model
    costs = reopened(written, subject).graph.costs
    params = costs["params"](reopened(written, subject).graph.dense())
    assert params == plan.costs["params"][1], "the plan's costs are those of the file"
    held = {name: kept(network.scores[name], own) for name, own in blocks.items()}
    lost = {name: network.scores[name].sum() - own for name, own in held.items()}
    total = sum(float(own.sum()) for own in network.scores.values())
    shares = [float(own / network.scores[name].sum()) for name, own in lost.items()]
    return Found(
        params=params,
        mean=1 - sum(shares) / network.convolutions,
        overall=1 - float(sum(lost.values())) / total,
        seconds=seconds,
        groups=tuple(numbers.get(site.weight, 1) for site in network.sites),
    )


def _runs(groups: tuple[int, ...]) -> str:
    """Numbers of groups in the order of the network."""
    return " ".join(map(str, groups))


if __name__ == "__main__":
    sys.exit(main())
