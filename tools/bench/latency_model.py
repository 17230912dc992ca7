"""Figure 4: how well latency is predicted, and what a latency budget wins over a FLOPs budget.

    python tools/bench/latency_model.py MODEL... [--profiles FOLDER] [--validate 100] [--ratio 0.5]

CPU, one thread, batch 1, on the last core of this process. For each MODEL (ResNet-50 and
MobileNetV2 in torchvision's structure; the README here says how to make them):

1. Its kernels are profiled, or its profile is read from FOLDER/NAME.profile.json.
2. Random slim models, uniform over multiples of --align, are timed and compared with `lut`.
3. A plan is made for `latency=RATIO`. Both plans for FLOPs that it is compared with, one with the
   same MACs and one with the same objective (found by bisection), are made with the same scores,
   worths and alignment. All four models are timed in one interleaved run. A plan whose MACs take
   no longer than those of the dense model wastes nothing: then a bar that is missed is printed as
   NOT REACHED with the number and this reason, and is no failure.

Channels are worth what they cost in MACs for every plan (`--worth gator{adaptive=false}`), so
that objectives compare.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from verdict import Figure, report

if TYPE_CHECKING:
    from prunec.compiler.plan import Plan
    from prunec.passes.options import Options
    from prunec.runtime.bench import BenchResult, Timing
    from prunec.runtime.compile import Settings
    from prunec.runtime.subject import Subject

MOST_ERROR = 5.0  # percent
LEAST_GAIN = 1.10
MOST_RATE = 1.01  # seconds per MAC by those of the dense model: above, there is something to win
BISECTIONS = 7
EQUAL = "flops, same objective"
LABELS = ("dense", "flops, same MACs", EQUAL)


def measure(model: Path, a: argparse.Namespace) -> list[Figure]:
    """The figures of one model."""
    from prunec.passes.options import Options
    from prunec.passes.worth.gator import Gator
    from prunec.runtime.latency.kernels import Where
    from prunec.runtime.latency.measure import Effort
    from prunec.runtime.latency.session import Task, carry_out
    from prunec.runtime.subject import open_model

    name = model.name.split(".")[1] if model.name.count(".") > 1 else model.stem
    subject = open_model(model)
    options = Options(align=a.align, worth=Gator(adaptive=False))
    task = Task(Where(), Effort(passes=a.passes), options, validate=a.validate)
    start = time.perf_counter()
    a.profiles.mkdir(parents=True, exist_ok=True)
    kept = a.profiles / f"{name}.profile.json"
    found = carry_out(subject, replace(task, validate=0), kept)
    figures = [
        Figure(
            f"{name}: profile, {found.ran} slim models",
            time.perf_counter() - start,
            "s",
            form=".0f",
        )
    ]
    if a.validate:
        found = carry_out(subject, task, None, [kept])
        seen = found.validation
        assert seen is not None
        note = f"R2 {seen.quality.r2:.4f}, bias {seen.bias:+.2%}, worst {seen.worst:.1%}"
        figures.append(
            Figure(
                f"{name}: lut, {a.validate} random slim models",
                100 * seen.quality.mpe,
                "%",
                most=MOST_ERROR,
                form=".2f",
                note=note,
            )
        )
    return [*figures, *_compare(name, model, kept, options, a)]


def _compare(
    name: str, model: Path, kept: Path, options: Options, a: argparse.Namespace
) -> list[Figure]:
    from prunec.runtime.compile import Settings
    from prunec.runtime.subject import open_model

    subject, settings = open_model(model), Settings(profile=kept, verify=False)
    plans = _plans(subject, options, settings, a.ratio)
    timed = _timed(subject, model, plans, settings, a)
    fast = plans[0]
    dense, macs = fast.costs["flops"]
    own, *others = timed.models
    per_mac = [
        timing.median_s / count / (others[0].median_s / dense)
        for timing, count in ((own, macs), (others[-1], plans[-1].costs["flops"][1]))
    ]
    promised = plans[-1].costs["latency"][1] / fast.costs["latency"][1]
    excuse = _no_room(per_mac[0], per_mac[1], promised, fast.gap)
    figures = []
    for label, plan, ratio, timing in zip(
        LABELS, (None, *plans[1:]), timed.ratios, others, strict=True
    ):
        speedup = 1 / ratio.ratio
        fastest = timing.fastest_s / own.fastest_s
        note = _rate(timing, dense if plan is None else plan.costs["flops"][1])
        note += "" if plan is None else f"; {_about(plan)}"
        note += (
            f"; 95 % interval {1 / ratio.high:.3f} to {1 / ratio.low:.3f}; fastest {fastest:.3f}"
        )
        title = f"{name}: {label} / latency={a.ratio}"
        barred = label == EQUAL
        figures.append(
            Figure(
                title,
                speedup,
                "x",
                least=LEAST_GAIN if barred else None,
                note=note,
                excuse=excuse if barred else "",
            )
        )
    note = f"{_rate(own, macs)}; {_about(fast)}"
    title = f"{name}: latency={a.ratio}"
    return [*figures, Figure(title, 1e3 * own.median_s, "ms", form=".2f", note=note)]


def _plans(
    subject: Subject, options: Options, settings: Settings, ratio: float
) -> tuple[Plan, Plan, Plan]:
    """For latency; for FLOPs with the same MACs, and with the same objective."""
    from prunec.runtime.compile import plan_for

    fast = plan_for(subject, f"latency={ratio}", options, settings)
    alike = plan_for(subject, f"flops={fast.costs['flops'][1]}", options, settings)
    low, high, equal = 0.0, 1.0, alike
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        tried = plan_for(subject, f"flops={middle}", options, settings)
        if tried.objective >= fast.objective:
            high, equal = middle, tried
        else:
            low = middle
    return fast, alike, equal


def _timed(
    subject: Subject,
    model: Path,
    plans: Sequence[Plan],
    settings: Settings,
    a: argparse.Namespace,
) -> BenchResult:
    """The first plan's model against the dense one and those of the other plans."""
    from prunec.runtime.bench import bench
    from prunec.runtime.compile import compile_model

    with tempfile.TemporaryDirectory() as text:
        files = [Path(text) / f"{k}.onnx" for k in range(len(plans))]
        for path, plan in zip(files, plans, strict=True):
            compile_model(subject, plan, settings, path)
        return bench([files[0], model, *files[1:]], rounds=a.rounds, seconds=a.seconds)


def _rate(timing: Timing, macs: int) -> str:
    return f"{1e3 * timing.median_s:.2f} ms, {1e12 * timing.median_s / macs:.2f} ms/GMAC"


def _about(plan: Plan) -> str:
    dense, macs = plan.costs["flops"]
    predicted = plan.costs["latency"][1] * 1e-6
    return f"MACs {macs / dense:.4f}, objective {plan.objective:.4f}, predicted {predicted:.2f} ms"


def _no_room(wasted: float, others: float, promised: float, gap: float | None) -> str:
    """Why nothing more can be won, or "".

    wasted, others: what a MAC takes in the plans for latency and for FLOPs, by the dense model's.
    promised: predicted gain. gap: how far from the best plan for this time the first can be.
    """
    if wasted > MOST_RATE:
        return ""
    proof = "is not proven to be the best" if gap is None else f"is within {gap:.2%} of the best"
    return (
        "this machine leaves no more room by what was measured: a MAC of the latency plan takes "
        f"{wasted:.3f} times what one of the dense model takes, one of the flops plan {others:.3f} "
        f"times; the prediction promised {promised:.3f} x, and its plan {proof} for that time"
    )


def main() -> int:
    """Measure every model on one core."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--profiles", type=Path, default=Path("profiles"))
    parser.add_argument("--validate", type=int, default=100)
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--align", type=int, default=8)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=120.0, help="of measuring, per model")
    a = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return report([figure for model in a.models for figure in measure(model, a)])


if __name__ == "__main__":
    sys.exit(main())
