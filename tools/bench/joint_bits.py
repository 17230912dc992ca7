"""Bits chosen together with channels, beside pruning to the same bytes at one number of bits.

    python tools/bench/joint_bits.py [MODEL] [--data FOLDER] [--budgets bytes=0.1,flops=0.5 ...]
        [--systems joint w8 ...] [--rounding gptq] [--predict N] [--table out.md]

MODEL: by default ../shared/models/resnet20-cifar10.onnx; FOLDER holds load.py and the images. All
plans have the same scores (`reconstruction`), the same budget, in exact bytes of the quantised
file, and the same recovery (least-squares on 512 unlabelled train images) and calibration; top-1 is
on the 10000 test images, which choose nothing here. `joint` has 4 or 8 bits per weight, valued by
the loss of the outputs or by the error of the layer; `w8`, `w4` one number for all; `float` none.

--predict N: instead, N random assignments of bits to all weights of the dense model, and how well
the sum of either measure over the weights, each quantised alone, ranks what they lose together.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from recovery import Files, prepared
from resnet20 import SHARED
from verdict import Figure, markdown, report

if TYPE_CHECKING:
    import onnx_ir as ir

    from prunec.compiler.plan import Plan
    from prunec.passes.quantize.bits import AutoBits
    from prunec.passes.quantize.recipe import Recipe
    from prunec.runtime.output_loss import OutputLoss
    from prunec.runtime.quantize.joint import Joint
    from prunec.runtime.subject import Subject

BUDGETS = ("bytes=0.1,flops=0.5", "bytes=0.1", "bytes=0.06,flops=0.5")
SYSTEMS = ("joint", "joint, layers", "w8", "w4", "float")
PREDICTED_BITS = (3, 4, 8)
PREDICTED_IMAGES = 2000


@dataclass(frozen=True, slots=True)
class Cell:
    """What one way of meeting a budget gave. nbytes: of the file; seconds: deciding."""

    budget: str
    system: str
    top1: float
    before: float
    nbytes: int
    limit: int
    flops: float
    params: float
    bits: str
    seconds: float


def main() -> int:
    """Fill the table, print it."""
    a = _arguments()
    if not a.model.is_file() or not (a.data / "load.py").is_file():
        print(f"SKIPPED: {a.model} or {a.data}/load.py does not exist; give their paths")
        return 0
    with tempfile.TemporaryDirectory(prefix="prunec-") as scratch:
        bench = Bench(a.model, prepared(Path(a.keep or scratch), a.data), a.rounding)
        if a.predict:
            return report(predictors(bench, a.predict))
        cells = [bench.cell(budget, system) for budget in a.budgets for system in a.systems]
    rows = [
        (
            c.budget,
            c.system,
            f"{c.top1:.2f}",
            f"{c.before:.2f}",
            f"{c.nbytes} of {c.limit}",
            f"{c.flops:.3f}",
            f"{c.params:.3f}",
            c.bits,
            f"{c.seconds:.1f}",
        )
        for c in cells
    ]
    heads = ("budget", "system", "top-1 %", "before quantising", "bytes", "flops", "params")
    table = markdown((*heads, "weights by bits", "seconds to decide"), rows)
    print(table)
    if a.table:
        a.table.write_text(table, encoding="utf-8")
    over = [c for c in cells if c.nbytes > c.limit]
    return report([Figure("files above their budget", len(over), most=0, form=".0f")])


class Bench:
    """One model, its scores, and what is measured of it."""

    def __init__(self, model: Path, files: Files, rounding: str) -> None:
        from prunec.passes.criteria.reconstruction import Reconstruction
        from prunec.passes.options import Options
        from prunec.passes.solvers.auto import Auto
        from prunec.runtime.compile import Settings
        from prunec.runtime.data import DataSpec
        from prunec.runtime.scores import scored
        from prunec.runtime.subject import open_model

        self.files, self.rounding = files, rounding
        self.subject = open_model(model)
        self.settings = Settings(data=DataSpec(str(files.calibration)), accuracy=False)
        options = Options(criterion=Reconstruction(), solver=Auto(gap=1e-4))
        self.scores = scored(
            self.subject, self.subject.graph, options, self.settings, lambda _: None
        )
        self.joints: dict[str, Joint] = {}

    def cell(self, budget: str, system: str) -> Cell:
        """Decide, slice, recover, quantise, measure."""
        from prunec.runtime.compile import compile_model
        from prunec.runtime.quantize.quantise import Conditions, quantise

        started = time.perf_counter()
        plan, recipe = self.planned(budget, system)
        seconds = time.perf_counter() - started
        pruned = compile_model(
            self.subject, plan, replace(self.settings, verify=False, quantize="none")
        ).model
        made, nbytes = pruned, plan.costs["bytes"][1]
        if recipe is not None:
            made = quantise(pruned, recipe, Conditions(data=self.settings.data)).model
            nbytes = _counted(made, self.subject)
            assert nbytes == plan.costs["bytes"][1], (nbytes, plan.costs["bytes"])
        shares = {name: now / dense for name, (dense, now) in plan.costs.items()}
        used = list(plan.bits.values())
        bits = ", ".join(f"{used.count(b)} x {b}" for b in sorted(set(used)))
        cell = Cell(
            budget, system, self.top1(made), self.top1(pruned), nbytes, plan.budget["bytes"],
            shares["flops"], shares["params"], bits, seconds,
        )  # fmt: skip
        print(cell, flush=True)
        return cell

    def planned(self, budget: str, system: str) -> tuple[Plan, Recipe | None]:
        """The plan of a system, and the recipe that carries out its bits."""
        from prunec.passes.pipeline import decide, limits_of, plan_of
        from prunec.passes.quantize.bits import AutoBits, parse_auto, settled
        from prunec.passes.quantize.recipe import parse_recipe
        from prunec.runtime.quantize.joint import with_bits

        graph, options = self.subject.graph, self.scores.options
        limits = limits_of(graph, budget)
        if system == "float":
            choice = decide(graph, self.scores.values, limits, options)
            return plan_of(graph, choice, limits, options, self.subject.digest), None
        rounding = f"{{rounding={self.rounding}}}"
        asked: AutoBits | Recipe
        if system.startswith("joint"):
            asked = parse_auto(f"auto{rounding}")
            asked = replace(asked, measure="layers" if "layers" in system else "outputs")
        else:
            asked = parse_recipe(f"{system}a8{rounding}")
        posed = self.joint(asked)
        choice = decide(posed.graph, self.scores.values, limits, options, dials=posed.dials)
        plan = plan_of(posed.graph, choice, limits, options, self.subject.digest)
        bits = posed.chosen(choice.dials)
        recipe = settled(asked, bits) if isinstance(asked, AutoBits) else asked
        return with_bits(self.subject, plan, posed, bits), recipe

    def joint(self, asked: AutoBits | Recipe) -> Joint:
        """What is posed, once per recipe: measuring takes longer than deciding."""
        from prunec.runtime.quantize.joint import joint

        if str(asked) not in self.joints:
            self.joints[str(asked)] = joint(
                self.subject, self.subject.graph, self.scores.values, self.scores.options, asked,
                self.settings, lambda _: None,
            )  # fmt: skip
        return self.joints[str(asked)]

    def top1(self, model: ir.Model, limit: int | None = None) -> float:
        """Percent of the test images, or of the first so many."""
        from prunec.runtime.accuracy import accuracy
        from prunec.runtime.data import DataSpec, load_data
        from prunec.runtime.inputs import model_inputs

        data = load_data(
            DataSpec(str(self.files.test), batch=250, limit=limit), model_inputs(model)
        )
        found = accuracy(model, data, ("top1",)).top1
        assert found is not None
        return 100 * found


def _counted(model: ir.Model, subject: Subject) -> int:
    """Bytes of a quantised model, by its own hypergraph."""
    from prunec.passes.quantize.file_bytes import file_bytes
    from prunec.runtime.subject import reopened

    own = reopened(model, subject).graph
    return file_bytes(model, {w.value for w in own.weights if w.counted})


def predictors(bench: Bench, number: int) -> list[Figure]:
    """Rank correlations over random assignments of bits: summed measure against joint loss."""
    from scipy.stats import spearmanr

    from prunec.passes.quantize.bits import AutoBits, settled
    from prunec.passes.quantize.recipe import Recipe
    from prunec.runtime.data import load_data
    from prunec.runtime.inputs import model_inputs
    from prunec.runtime.output_loss import OutputLoss
    from prunec.runtime.quantize.quantise import quantise
    from prunec.runtime.session import make_session

    recipe = Recipe(8, None)
    posed = bench.joint(AutoBits(PREDICTED_BITS, "outputs", recipe))
    names = list(posed.found)
    rng = np.random.default_rng(0)
    model = bench.subject.model
    judge = OutputLoss(model)
    data = load_data(replace(bench.settings.data, batch=256), model_inputs(model))
    batches = list(data)
    dense = [make_session(model).run(feeds, judge.outputs) for feeds in batches]
    sums: dict[str, list[float]] = {"layers": [], "outputs": []}
    lost, missed = [], []
    for _ in range(number):
        drawn = rng.choice(len(PREDICTED_BITS), len(names), p=rng.dirichlet([0.6] * 3))
        bits = {name: PREDICTED_BITS[k] for name, k in zip(names, drawn, strict=True)}
        made = quantise(model, settled(AutoBits(PREDICTED_BITS, "outputs", recipe), bits)).model
        session = make_session(made)
        outputs = [session.run(feeds, judge.outputs) for feeds in batches]
        lost.append(
            float(np.mean([_loss(judge, a, b) for a, b in zip(dense, outputs, strict=True)]))
        )
        missed.append(100 - bench.top1(made, PREDICTED_IMAGES))
        at = list(zip((posed.found[name] for name in names), drawn, strict=True))
        sums["layers"].append(sum(float(x.errors()[k]) for x, k in at))
        sums["outputs"].append(sum(float(x.losses()[k]) for x, k in at))
    return [
        Figure(f"rank correlation of {measure} with {what}", float(spearmanr(own, found)[0]))
        for measure, own in sums.items()
        for what, found in (("the joint loss", lost), ("top-1 errors", missed))
    ]


def _loss(judge: OutputLoss, dense: Sequence[np.ndarray], changed: Sequence[np.ndarray]) -> float:
    names = judge.outputs
    return judge(dict(zip(names, dense, strict=True)), dict(zip(names, changed, strict=True)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", type=Path, nargs="?", default=SHARED / "models" / "resnet20-cifar10.onnx"
    )
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "cifar10")
    parser.add_argument("--budgets", nargs="+", default=BUDGETS)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--rounding", default="gptq")
    parser.add_argument("--predict", type=int, default=0, metavar="N")
    parser.add_argument("--keep", type=Path, help="where to keep the data as arrays")
    parser.add_argument("--table", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
