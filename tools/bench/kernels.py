"""What a 3x3 kernel without some of its rows and columns saves in onnxruntime.

    python tools/bench/kernels.py [--threads 1] [--rounds 20]

Each row is a chain of four convolutions with Relu (batch 1) of so many channels and pixels, pruned
by `--kernel-positions layer` to the form of the column; `depthwise` has one group per channel.
Numbers are times as fast as 3x3, medians of interleaved runs; in brackets the ratio of MACs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from prunec.compiler.freedom import Freedom
from prunec.frontends.onnx import save
from prunec.passes.apply import prune
from prunec.runtime.bench import bench
from prunec.runtime.subject import Subject, open_model

SIZES = ((64, 56), (128, 28), (256, 14), (512, 7))
ALL = (0, 1, 2)
FORMS = {
    "3x3": (ALL, ALL),
    "2x3": ((0, 1), ALL),
    "corners": ((0, 2), (0, 2)),
    "1x3": ((1,), ALL),
    "3x1": (ALL, (1,)),
    "1x1": ((1,), (1,)),
}


def network(channels: int, pixels: int, groups: int) -> onnx.ModelProto:
    """Four convolutions with random weights."""
    rng, name, nodes, stored = np.random.default_rng(0), "x", [], []
    for k in range(4):
        shape = (channels, channels // groups, 3, 3)
        array = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        stored.append(numpy_helper.from_array(array.astype(np.float32), f"w{k}"))
        made, read = f"c{k}", [name, f"w{k}"]
        nodes.append(helper.make_node("Conv", read, [made], made, pads=[1] * 4, group=groups))
        name = f"r{k}"
        nodes.append(helper.make_node("Relu", [made], [name], name))
    shape = [1, channels, pixels, pixels]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", name))
    graph = helper.make_graph(nodes, "kernels", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(subject: Subject, rows: tuple[int, ...], columns: tuple[int, ...], path: Path) -> float:
    """Write the network with these positions in every kernel; the ratio of its MACs."""
    graph = subject.graph
    mask = np.ones(graph.number_of_groups + 1, bool)
    for e in graph.subsets:
        edge = graph.edges[e]
        own = rows if edge.name.endswith(":2") else columns
        mask[edge.first : edge.first + edge.size] = np.isin(np.arange(edge.size), own)
    save(prune(subject.model, subject.facts, graph, mask), path)
    counts = [int(mask[e.first : e.first + e.size].sum()) for e in graph.edges]
    return graph.costs["flops"](counts) / graph.costs["flops"](graph.dense())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    print("| channels, pixels | " + " | ".join(FORMS) + " |")
    print("| --- |" + " --- |" * len(FORMS))
    for channels, pixels in SIZES:
        for groups in (1, channels):
            subject = open_model(network(channels, pixels, groups), freedom=Freedom(kernels=True))
            with tempfile.TemporaryDirectory() as folder:
                paths = [Path(folder) / f"{name}.onnx" for name in FORMS]
                ratios = [
                    write(subject, *form, path)
                    for form, path in zip(FORMS.values(), paths, strict=True)
                ]
                found = bench(paths, rounds=options.rounds, threads=options.threads)
            dense = found.models[0].median_s
            cells = [f"{1000 * dense:.2f} ms"] + [
                f"{dense / m.median_s:.2f} ({r:.2f})"
                for m, r in zip(found.models[1:], ratios[1:], strict=True)
            ]
            kind = "" if groups == 1 else " depthwise"
            print(f"| {channels}, {pixels}{kind} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
