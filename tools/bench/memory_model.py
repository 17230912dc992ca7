"""What `memory` says against what onnxruntime allocates, dense and pruned.

    python tools/bench/memory_model.py MODEL[@SIZE]... [--budget memory=0.5] [--align 16]

For each model, and for the model pruned to the budget (`none`: dense alone): the peak of live
activations, which is the cost; the block that a planner needs that places one buffer after the
other, as onnxruntime does; what onnxruntime allocates (the arena's log, one run, activations and
workspace, without weights). SIZE: height and width of the first input instead of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import onnx
from verdict import markdown

from prunec.compiler.buffers import run_of
from prunec.compiler.errors import PrunecError
from prunec.frontends.onnx import load, save
from prunec.frontends.shapes import infer_facts
from prunec.passes.options import Options
from prunec.runtime.allocation import measure_allocation
from prunec.runtime.compile import Settings, apply_plan, plan_for
from prunec.runtime.packing import packed_peak
from prunec.runtime.recount import recount
from prunec.runtime.subject import Subject, open_model

HEADER = (
    "model", "live peak", "placed one by one", "onnxruntime", "live", "placed",
)  # fmt: skip


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="+")
    parser.add_argument("--budget", default="memory=0.5")
    parser.add_argument("--align", type=int, help="16: what AVX-512 kernels work on at once")
    a = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="prunec-") as text:
        for spec in a.model:
            name, _, size = spec.partition("@")
            path = Path(name)
            if size:
                path = resized(path, int(size), Path(text) / "resized.onnx")
            subject = open_model(path)
            label = Path(name).stem + (f" at {size}" if size else "")
            rows.append(compared(label, subject, path))
            if a.budget == "none":
                continue
            try:
                plan = plan_for(subject, a.budget, Options(align=a.align), Settings())
            except PrunecError as error:
                print(f"{label}: {error}", file=sys.stderr)
                continue
            pruned = Path(text) / "pruned.onnx"
            save(apply_plan(subject, plan), pruned)
            rows.append(compared(f"{label}, {a.budget}", subject, pruned))
    print(markdown(HEADER, rows), end="")
    return 0


def compared(label: str, subject: Subject, path: Path) -> tuple[str, ...]:
    """The figures of a file, dense or pruned from the subject, in MB and as errors."""
    model = load(path)
    facts = infer_facts(model, subject.shapes)
    live = recount(model, facts, subject.graph.weights, subject.graph.held)["memory"]
    held = {n: b for n, b in subject.graph.held.items() if n in facts.shapes}
    run = run_of(model.graph, held, facts, model.opset_imports.get("", 1))
    placed, real = packed_peak(run, facts), measure_allocation(path, subject.shapes).total
    mega = (f"{n / 1e6:.3f} MB" for n in (live, placed, real))
    return (label, *mega, f"{live / real - 1:+.1%}", f"{placed / real - 1:+.1%}")


def resized(path: Path, size: int, out: Path) -> Path:
    """The same model for images of another size."""
    model = onnx.load(path)
    del model.graph.value_info[:]
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.Clear()
        dim.dim_value = size
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    onnx.save(onnx.shape_inference.infer_shapes(model), out)
    return out


if __name__ == "__main__":
    sys.exit(main())
