"""Figure 4: how well latency is predicted, and what a latency budget wins over a FLOPs budget.

    python tools/bench/latency_model.py MODEL... [--profiles FOLDER] [--validate 100] [--ratio 0.5]

CPU, one thread, batch 1, on the last core of this process. For each MODEL (ResNet-50 and
MobileNetV2 in torchvision's structure; the README here says how to make them):

1. Its kernels are profiled, or its profile is read from FOLDER/NAME.profile.json.
2. Random slim models, uniform over multiples of --align, are timed and compared with `lut`.
3. A plan is made for `latency=RATIO`. Both plans for FLOPs that it is compared with, one with the
   same MACs and one with the same objective (found by bisection), are made with the same scores,
   worths and alignment. All four models are timed in one interleaved run. A plan that takes as
   long per MAC as the dense model wastes nothing: then a bar that is missed is no fault.

Channels are worth what they cost in MACs for every plan (`--worth gator{adaptive=false}`), so
that objectives compare.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from verdict import Figure, report

MOST_ERROR = 5.0  # percent
LEAST_GAIN = 1.10
MOST_RATE = 1.01  # seconds per MAC by those of the dense model: above, there is something to win
BISECTIONS = 7


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
    name: str, model: Path, kept: Path, options: object, a: argparse.Namespace
) -> list[Figure]:
    from prunec.compiler.plan import Plan
    from prunec.passes.options import Options
    from prunec.runtime.bench import bench
    from prunec.runtime.compile import Settings, compile_model, plan_for
    from prunec.runtime.subject import open_model

    assert isinstance(options, Options)
    subject, settings = open_model(model), Settings(profile=kept, verify=False)

    def plan(budget: str) -> Plan:
        return plan_for(subject, budget, options, settings)

    fast = plan(f"latency={a.ratio}")
    dense, macs = fast.costs["flops"]
    alike = plan(f"flops={macs}")
    low, high = 0.0, 1.0
    equal = alike
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        tried = plan(f"flops={middle}")
        if tried.objective >= fast.objective:
            high, equal = middle, tried
        else:
            low = middle
    plans = {
        f"latency={a.ratio}": fast,
        "flops, same MACs": alike,
        "flops, same objective": equal,
    }
    with tempfile.TemporaryDirectory() as text:
        files = []
        for k, own in enumerate(plans.values()):
            files.append(Path(text) / f"{k}.onnx")
            compile_model(subject, own, settings, files[-1])
        timed = bench([files[0], model, *files[1:]], rounds=a.rounds, seconds=a.seconds)
    rate = timed.models[0].median_s / macs
    figures = []
    for label, own, ratio, timing in zip(
        ("dense", *list(plans)[1:]),
        (None, *list(plans.values())[1:]),
        timed.ratios,
        timed.models[1:],
        strict=True,
    ):
        cost = dense if own is None else own.costs["flops"][1]
        note = f"{1e3 * timing.median_s:.2f} ms, {1e12 * timing.median_s / cost:.2f} ms/GMAC; "
        if own is not None:
            note += (
                f"MACs {own.costs['flops'][1] / dense:.4f}, objective {own.objective:.4f}, "
                f"predicted {own.costs['latency'][1] * 1e-6:.2f} ms; "
            )
        speedup = 1 / ratio.ratio
        note += f"95 % interval {1 / ratio.high:.3f} to {1 / ratio.low:.3f}; fastest runs "
        note += f"{timing.fastest_s / timed.models[0].fastest_s:.3f}"
        bar = LEAST_GAIN if label.endswith("objective") else None
        if bar and speedup < bar and rate <= MOST_RATE * timed.models[1].median_s / dense:
            note += "; no room: the latency plan takes no longer per MAC than the dense model"
            bar = None
        figures.append(
            Figure(f"{name}: {label} / latency={a.ratio}", speedup, "x", least=bar, note=note)
        )
    predicted, taken = fast.costs["latency"][1] * 1e-6, 1e3 * timed.models[0].median_s
    note = f"{1e9 * taken / macs:.2f} ms/GMAC, predicted {predicted:.2f} ms, "
    note += f"MACs {macs / dense:.4f}, objective {fast.objective:.4f}"
    figures.append(Figure(f"{name}: latency={a.ratio}", taken, "ms", form=".2f", note=note))
    return figures


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
