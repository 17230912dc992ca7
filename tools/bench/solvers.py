"""What each solver proves in what time, on one core.

    python tools/bench/solvers.py MODEL... [--budgets 0.5,0.46] [--repeats 3]
    python tools/bench/solvers.py MODEL... --staircase [--budgets 0.5] [--repeats 1]

Poses the selection problem of a model (magnitude scores) and solves it with the default solver;
the bars of a file go by its name. A measurement is a fresh process; the problem is posed before
the clock starts, PuLP and HiGHS are imported after. The median counts. Every figure is shown on
stderr as soon as it is known, the table at the end.

--staircase: every solver instead, on a made-up latency that rises in steps of 16 channels, up to
10 % more or less on each step, as a table over both widths of every layer. That is up to two
minutes per model, budget and repeat: most of them run into their time limits.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pinned import pinned
from verdict import Figure, report

if TYPE_CHECKING:
    from prunec.compiler.problem import Problem

TREAD = 16
NOISE = 0.1
SOLVERS = ("greedy", "milp{backend=cbc}", "milp{backend=highs}", "auto")


@dataclass(frozen=True, slots=True)
class Case:
    """align: None for the default. gap: percent; both are the bars. residual: as the option."""

    align: int | None
    gap: float
    seconds: float
    residual: bool = False


CASES = {
    "resnet50": (Case(8, 0.1, 20), Case(16, 0.1, 5)),
    "vit_b_16": (Case(8, 0.5, 30), Case(8, 0.5, 30, residual=True)),
    "densenet201": (Case(8, 0.5, 30),),
    "resnet20": (Case(1, 0.1, 5),),
}
OTHER = (Case(8, 0.5, 30),)


def pose(path: Path, case: Case, budget: str) -> Problem:
    """The selection problem of a model."""
    from prunec.compiler.freedom import Freedom
    from prunec.passes import pipeline
    from prunec.passes.criteria.magnitude import Magnitude
    from prunec.runtime.subject import open_model

    subject = open_model(path, freedom=Freedom(residual=case.residual))
    scores = Magnitude()(subject.model, subject.graph, None)
    limits = pipeline.limits_of(subject.graph, f"flops={budget}")
    return pipeline.pose(subject.graph, scores, limits, pipeline.Options(align=case.align))


def with_staircase(problem: Problem, share: float) -> Problem:
    """The same with a latency: each product of the flops, with sizes rounded up, off a little."""
    import numpy as np

    from prunec.compiler.cost import Polynomial, Table, Tabled
    from prunec.compiler.problem import Limit

    random, dense, tables = np.random.default_rng(0), problem.dense(), []
    for term in problem.rows[0][0].terms:
        points, steps = [], []
        for factor in term.factors:
            top = factor(dense)
            ends = np.arange(TREAD, top + 1, TREAD)
            points.append(np.unique([1, *ends, *np.minimum(ends + 1, top), top]))
            steps.append(-(-points[-1] // TREAD))
        shape = [int(step[-1]) for step in steps]
        smooth = term.scale * TREAD ** len(shape) * (np.indices(shape) + 1).prod(axis=0)
        rough = smooth * random.uniform(1 - NOISE, 1 + NOISE, shape)
        tables.append(Table(term.factors, tuple(points), rough[np.ix_(*(s - 1 for s in steps))]))
    latency = Tabled(Polynomial(()), tuple(tables))
    limit = Limit("latency", int(share * latency(dense)))
    return replace(problem, costs={"latency": latency}, limits=(limit,))


def take(path: Path, number: int, budget: str, solver: str, staircase: bool) -> str:
    """Solve once in this process; JSON."""
    from prunec.compiler.spec import parse
    from prunec.passes.solvers import SOLVERS as ROWS

    problem = pose(path, _cases(path)[number], budget)
    if staircase:
        problem = with_staircase(problem, float(budget))
    solve = parse(solver, ROWS, "solver")
    cpu, start = time.process_time(), time.perf_counter()
    found = solve(problem, None)
    return json.dumps(
        {
            "seconds": time.perf_counter() - start,
            "cpu": time.process_time() - cpu,
            "gap": None if found.gap is None else 100 * found.gap,
            "objective": found.objective,
            "proof": found.proof,
        }
    )


def _cases(path: Path) -> tuple[Case, ...]:
    return next((CASES[name] for name in CASES if name in path.name), OTHER)


def measure(path: Path, budget: str, a: argparse.Namespace) -> Iterator[Figure]:
    """The figures of one model at one budget."""
    # Steps of 16 channels leave nothing to tell between alignments: the first case will do.
    cases = _cases(path)[: 1 if a.staircase else None]
    for number, case in enumerate(cases):
        for solver in SOLVERS if a.staircase else ("auto",):
            command = [sys.executable, __file__, str(path), "--budgets", budget]
            command += ["--one", str(number), "--solver", solver]
            command += ["--staircase"] * a.staircase
            runs = [json.loads(pinned(command).stdout) for _ in range(a.repeats)]
            name = f"{path.name.removesuffix('.onnx')} {budget} align {case.align}"
            name += " residual" * case.residual + f" {solver}" * a.staircase
            gaps = [run["gap"] for run in runs]
            bars = (None, None) if a.staircase else (case.seconds, case.gap)
            note = f"CPU {statistics.median(r['cpu'] for r in runs):.2f} s"
            proof = f"objective {runs[0]['objective']:.6f}, by {runs[0]['proof'] or 'nobody'}"
            seconds = statistics.median(r["seconds"] for r in runs)
            worst = None if None in gaps else max(gaps)
            yield Figure(name, seconds, "s", most=bars[0], form=".2f", note=note)
            yield Figure(f"{name}, gap", worst, "%", most=bars[1], form=".4f", note=proof)


def shown(figures: Iterator[Figure]) -> Iterator[Figure]:
    """The same, each of them on stderr as well, at once."""
    for figure in figures:
        value = "-" if figure.value is None else f"{figure.value:{figure.form}} {figure.unit}"
        print(f"{figure.name}  {value}  {figure.note}", file=sys.stderr, flush=True)
        yield figure


def main() -> int:
    """Measure every model at every budget."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--budgets", help="shares of the dense flops")
    parser.add_argument("--staircase", action="store_true", help="tables, and every solver")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--solver", default="auto", help=argparse.SUPPRESS)
    a = parser.parse_args()
    a.budgets = a.budgets or ("0.5" if a.staircase else "0.5,0.46")
    a.repeats = a.repeats or (1 if a.staircase else 3)
    if a.one is not None:
        print(take(a.models[0], a.one, a.budgets, a.solver, a.staircase))
        return 0
    budgets = a.budgets.split(",")
    return report([f for m in a.models for b in budgets for f in shown(measure(m, b, a))])


if __name__ == "__main__":
    sys.exit(main())
