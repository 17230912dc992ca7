"""Figure 2: one-core seconds of each stage, and the gap that the MILP proves in 30 s.

    python tools/bench/speed.py MODEL... [--stages analyse,prune,verify,milp] [--repeats 3]

Made for ResNet-50, MobileNetV2 and DenseNet-121 in torchvision's structure (the README here says
how to make them); the bars of a file go by its name. Every measurement is a fresh process on one
core, times exclude its start and imports (except onnxruntime's, in `verify`); the median counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from pinned import pinned
from verdict import Figure, report

MOST_SECONDS: Mapping[str, Mapping[str, float]] = {
    "resnet50": {"analyse": 1.5, "prune": 2.5, "verify": 15},
}
MOST_GAP = {"resnet50": 0.5, "mobilenet_v2": 0.1, "densenet121": 0.1}  # percent
SOLVER_S = 30.0
SOLVER_SLACK_S = 1.0  # the solver ends by its own clock
ABOUT = {
    "analyse": "parse + couple + cost",
    "prune": "scores + greedy + apply + write",
    "verify": "the oracle",
    "milp": "milp at align 8",
}


Action = Callable[[], float | None]


def analyse(path: Path) -> Action:
    """Parse, couple and count."""
    from prunec.runtime.subject import open_model

    def action() -> None:
        open_model(path)

    return action


def prune(path: Path) -> Action:
    """Score, choose greedily, rewrite and write."""
    from prunec.passes.options import Options
    from prunec.passes.solvers.greedy import Greedy
    from prunec.runtime.compile import Settings, compile_model, plan_for
    from prunec.runtime.subject import open_model

    subject = open_model(path)
    settings = Settings(verify=False)

    def action() -> None:
        with tempfile.TemporaryDirectory() as folder:
            plan = plan_for(subject, "flops=0.46", Options(solver=Greedy()), settings)
            compile_model(subject, plan, settings, Path(folder) / "pruned.onnx")

    return action


def verify(path: Path) -> Action:
    """Run the oracle on a pruned model."""
    from prunec.passes.options import Options
    from prunec.passes.solvers.greedy import Greedy
    from prunec.runtime.compile import Settings, apply_plan, plan_for
    from prunec.runtime.subject import open_model
    from prunec.runtime.verify import verify as run

    subject = open_model(path)
    plan = plan_for(subject, "flops=0.46", Options(solver=Greedy()), Settings())
    pruned = apply_plan(subject, plan)
    return lambda: run(subject, plan, pruned).require()


def milp(path: Path) -> Action:
    """Solve at align 8; returns the proven gap in percent."""
    from prunec.compiler.budget import parse_budget
    from prunec.passes.criteria.magnitude import Magnitude
    from prunec.passes.options import Options
    from prunec.passes.pose import pose
    from prunec.passes.solvers.milp import Milp
    from prunec.runtime.subject import open_model

    subject = open_model(path)
    graph = subject.graph
    limits = parse_budget("flops=0.46", {k: cost(graph.dense()) for k, cost in graph.costs.items()})
    scores = Magnitude()(subject.model, graph, None)
    problem = pose(graph, scores, limits, Options(align=8))

    def action() -> float | None:
        gap = Milp(time_limit=SOLVER_S)(problem, None).gap
        return None if gap is None else 100 * gap

    return action


STAGES: Mapping[str, Callable[[Path], Action]] = {
    "analyse": analyse,
    "prune": prune,
    "verify": verify,
    "milp": milp,
}


def take(path: Path, stage: str) -> str:
    """Time one stage in this process; JSON."""
    action = STAGES[stage](path)
    cpu, start = time.process_time(), time.perf_counter()
    gap = action()
    return json.dumps(
        {
            "seconds": time.perf_counter() - start,
            "cpu": time.process_time() - cpu,
            "gap": gap,
        }
    )


def measure(path: Path, stage: str, repeats: int) -> list[Figure]:
    """The figures of one stage of one model."""
    name = next((n for n in MOST_GAP if n in path.name), path.stem)
    command = [sys.executable, __file__, str(path), "--one", stage]
    runs = [json.loads(pinned(command).stdout) for _ in range(repeats)]
    seconds = [run["seconds"] for run in runs]
    bar = SOLVER_S + SOLVER_SLACK_S if stage == "milp" else MOST_SECONDS.get(name, {}).get(stage)
    note = "wall " + ", ".join(f"{s:.2f}" for s in seconds)
    note += f"; CPU {statistics.median(run['cpu'] for run in runs):.2f} s"
    label = f"{name}: {ABOUT[stage]}"
    figures = [Figure(label, statistics.median(seconds), "s", most=bar, form=".2f", note=note)]
    if stage == "milp":
        gaps = [run["gap"] for run in runs]
        worst = None if None in gaps else max(gaps)
        figures.append(
            Figure(f"{label}, gap", worst, "%", most=MOST_GAP.get(name), form=".4f", note="worst")
        )
    return figures


def main() -> int:
    """Measure every stage of every model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", choices=sorted(STAGES), help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        print(take(a.models[0], a.one))
        return 0
    stages = [s for s in STAGES if s in a.stages.split(",")]
    return report([f for m in a.models for s in stages for f in measure(m, s, a.repeats)])


if __name__ == "__main__":
    sys.exit(main())
