"""The published pairwise instances: objective, published greedy's objective, bound, gap, seconds.

    python tools/bench/qcqp.py [--reference FOLDER] [--solver SPEC] [--only NAME]

FOLDER holds qcqp/*.npz and qcqp/tiny_golden*.json, by default ../shared/reference beside the
repository. Seconds are CPU time of one core, without the bound and of the bound alone. The tiny
instances are for the MILP, whose optima have to be the reference's.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pinned import ONE_THREAD
from qcqp_instances import REFERENCE, Instance, problem_of, read_npz, read_tiny
from verdict import Figure, markdown, report

from prunec.compiler.pairwise import PairwiseProblem, PairwiseSolution
from prunec.compiler.spec import parse
from prunec.passes.pairwise import PAIRWISE_SOLVERS
from prunec.passes.pairwise.bound import upper_bound
from prunec.passes.pairwise.greedy import Greedy
from prunec.passes.pairwise.lagrangian import Lagrangian

# (instance, coupled, minimum) -> least objective, most seconds without the bound
BARS = {
    ("resnet20_flops_2D_0.46", False, 4): (421.99, 2.0),
    ("resnet20_flops_2D_0.46", False, 1): (425.1, 2.0),
    ("resnet20_flops_2D_0.46", True, 4): (414.27, 2.0),
    ("resnet32_flops_2D_0.46", False, 1): (715.4, 4.0),
}
AGREES = 1e-5
SINGLE = 1e-6  # relative; the published objectives are sums in float32
PUBLISHED_SECONDS = 6.3  # of the published greedy on ResNet-20


def main() -> int:
    """Solve, bound and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    parser.add_argument("--solver", default="lagrangian", metavar="SPEC")
    parser.add_argument("--only", default="", metavar="NAME")
    a = parser.parse_args()
    if any(os.environ.get(name) != "1" for name in ONE_THREAD):  # read when numpy is imported
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    folder = a.reference / "qcqp"
    if not folder.is_dir():
        print(f"SKIPPED: {folder} does not exist; give the folder with --reference")
        return 0
    figures, rows = [], []
    for path in sorted(folder.glob("*.npz")):
        if a.only in path.stem:
            for coupled in (False, True):
                for least in (1, 4):
                    row, figure = large(read_npz(path), coupled, least, a.solver)
                    rows.append(row)
                    figures += figure
    header = ["instance", "streams", "least", "objective", "published greedy", "bound", "gap"]
    print(markdown([*header, "used", "seconds", "bound s"], rows))
    for path in sorted(folder.glob("tiny*.json")):
        if a.only in path.stem:
            figures += tiny(path)
    return report(figures)


def large(
    instance: Instance, coupled: bool, least: int, spec: str
) -> tuple[list[str], list[Figure]]:
    """A row of the table and the figures that have a bar."""
    problem = problem_of(instance, coupled=coupled, least=least)
    found, seconds = solved(problem, spec, bound=False)
    assert not problem.faults(found.mask), problem.faults(found.mask)
    start = time.process_time()
    bound = upper_bound(problem, found.objective).value
    bounding = time.process_time() - start
    cost = problem.costs["flops"](problem.counts(found.mask))
    row = [
        instance.name,
        "coupled" if coupled else "decoupled",
        str(least),
        f"{found.objective:.4f}",
        f"{instance.published:.4f}" if least == 4 and not coupled else "",
        f"{bound:.3f}",
        f"{(bound - found.objective) / bound:.2%}",
        f"{cost / instance.limit:.3%}",
        f"{seconds:.2f}",
        f"{bounding:.2f}",
    ]
    bar = _bar(instance, coupled, least, spec)
    label = f"{instance.name} {row[1]}, least {least}"
    figures = [] if bar is None else [
        Figure(f"{label}: objective", found.objective, "", least=bar[0], form=".4f"),
        Figure(f"{label}: time", seconds, "s", most=bar[1], form=".2f"),
    ]  # fmt: skip
    return row, figures


def _bar(instance: Instance, coupled: bool, least: int, spec: str) -> tuple[float, float] | None:
    """Of the default solver the figures to reach, of the greedy those of the published one."""
    if spec.startswith("greedy"):
        found = (instance.published * (1 - SINGLE), PUBLISHED_SECONDS)
        return found if least == 4 and not coupled else None
    return BARS.get((instance.name, coupled, least))


def tiny(path: Path) -> list[Figure]:
    """Proven optima of the MILP against the reference."""
    figures = []
    for instance, decoupled, coupled in read_tiny(path):
        for best, together in ((decoupled, False), (coupled, True)):
            if best is not None:
                problem = problem_of(instance, coupled=together, least=1)
                found, seconds = solved(problem, "milp{time_limit=120}", bound=True)
                figures.append(
                    Figure(
                        f"{instance.name} {'coupled' if together else 'decoupled'}: milp - optimum",
                        found.objective - best,
                        least=-AGREES,
                        most=AGREES,
                        form=".1e",
                        note=f"{found.status.value}, gap {found.gap:.0e}, {seconds:.1f} s",
                    )
                )
    return figures


def solved(problem: PairwiseProblem, spec: str, bound: bool) -> tuple[PairwiseSolution, float]:
    """Solution and CPU seconds."""
    solver: Any = parse(spec, PAIRWISE_SOLVERS, "pairwise solver")
    if isinstance(solver, Lagrangian | Greedy):
        solver = replace(solver, bound=bound)
    start = time.process_time()
    return solver(problem, None), time.process_time() - start


if __name__ == "__main__":
    sys.exit(main())
