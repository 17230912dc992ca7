"""Peak memory of the whole prune command on 600 MB of weights, inline and external.

    python tools/bench/memory.py [--megabytes 600] [--folder FOLDER]

Makes a stack of fully connected layers, four large ones, once inline and once with external data,
and prunes it without verification in a process of its own. Beside it: loading, halving every
weight's rows and saving with the onnx package alone. FOLDER: where to write, with room for five
times the weights; by default a temporary one.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from pinned import pinned
from verdict import Figure, report

LAYERS = 4
MB = 1e6
PLAIN = """
import sys
import onnx
from onnx import numpy_helper

model = onnx.load(sys.argv[1])
for tensor in model.graph.initializer:
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(array[: len(array) // 2], tensor.name))
external = sys.argv[3] == "external"
onnx.save(model, sys.argv[2], save_as_external_data=external, location="plain.data")
"""
MAKE = """
import sys
import numpy as np
import onnx
from onnx import helper, numpy_helper

width, layers, inline, external = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
random, nodes, weights, x = np.random.default_rng(0), [], [], "x"
for k in range(layers):
    array = random.standard_normal((width, width), np.float32) / width**0.5
    weights.append(numpy_helper.from_array(array, f"layer{k}.weight"))
    nodes.append(helper.make_node("Gemm", [x, f"layer{k}.weight"], [f"h{k}"], transB=1))
    nodes.append(helper.make_node("Relu", [f"h{k}"], [x := f"r{k}"]))
value = lambda name: helper.make_tensor_value_info(name, 1, [1, width])
graph = helper.make_graph(nodes, "stack", [value("x")], [value(x)], weights)
opsets = [helper.make_opsetid("", 17)]
model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
onnx.save(model, inline)
onnx.save(model, external, save_as_external_data=True, location="external.data")
"""


def main() -> int:
    """Make the models, run both ways on both, print peaks against the bars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=600)
    parser.add_argument("--folder", type=Path)
    a = parser.parse_args()
    width = 64 * round(math.sqrt(a.megabytes * MB / 4 / LAYERS) / 64)
    tensor, total = 4 * width * width, 4 * width * width * LAYERS
    print(f"{LAYERS} layers of {width} x {width}: {total / MB:.0f} MB")
    with tempfile.TemporaryDirectory(dir=a.folder) as text:
        folder = Path(text)
        files = {kind: folder / f"{kind}.onnx" for kind in ("inline", "external")}
        make = [sys.executable, "-c", MAKE, str(width), str(LAYERS), *map(str, files.values())]
        subprocess.run(make, check=True)
        figures = [
            figure for kind, path in files.items() for figure in measure(kind, path, tensor, total)
        ]
    return report(figures)


def measure(kind: str, model: Path, tensor: int, total: int) -> list[Figure]:
    """Peaks of prunec and of the plain way on one model, in MB."""
    pruned, plain = model.with_name("pruned.onnx"), model.with_name("plain.onnx")
    job = [sys.executable, "-m", "prunec", str(model), "--budget", "params=0.5", "--no-verify"]
    usage = pinned([*job, "--output", str(pruned)])
    other = pinned([sys.executable, "-c", PLAIN, str(model), str(plain), kind])
    for path in model.parent.glob("p*"):
        path.unlink()
    allowed = 1.3 * tensor + 300 * MB
    most = 2.5 * total if kind == "inline" else total + allowed
    note = f"{usage.peak / total:.2f} x the weights, {usage.seconds:.1f} s"
    anonymous = usage.peak_anonymous / MB
    over = allowed / MB if kind == "external" else None
    note_plain = f"{other.peak / total:.2f} x the weights, {other.seconds:.1f} s"
    return [
        Figure(f"{kind}: prunec", usage.peak / MB, "MB", most=most / MB, form=".0f", note=note),
        Figure(f"{kind}: prunec, not mapped", anonymous, "MB", most=over, form=".0f"),
        Figure(
            f"{kind}: onnx load, edit, save", other.peak / MB, "MB", form=".0f", note=note_plain
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
