"""How coupling scales: chains of 10, 100 and 1000 blocks, and large models.

    python tools/bench/scaling.py [MODEL...]

On one core: CPU seconds to open (read, infer shapes, couple, count) and to couple alone. Chains
are of residual convolution blocks and of transformer blocks; near-linear means that a block of the
longest chain takes at most half as long again as one of the middle chain. For a MODEL the bars are
3 s to couple and 300 MB of memory beside the mapped file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pinned import pinned
from verdict import Figure, report

LENGTHS = (10, 100, 1000)
WIDTH, HEADS, TOKENS = 32, 4, 8


def measure(path: Path) -> dict[str, float]:
    """CPU seconds of opening a model, and of coupling alone."""
    from prunec.compiler.interpret import interpret
    from prunec.runtime.subject import open_model

    start = time.process_time()
    subject = open_model(path)
    opened = time.process_time()
    interpret(subject.model, subject.facts)
    return {"open": opened - start, "couple": time.process_time() - opened}


def make(kind: str, blocks: int, path: str) -> None:
    """Write a chain of blocks with random weights."""
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    random = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(*shape: int) -> str:
        name = f"w{len(weights)}"
        array = random.standard_normal(shape).astype(np.float32)
        weights.append(numpy_helper.from_array(array, name))
        return name

    def shape_of(*sizes: int) -> str:
        name = f"w{len(weights)}"
        weights.append(numpy_helper.from_array(np.array(sizes, np.int64), name))
        return name

    def add(op: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(nodes)}"
        nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def convolutions(x: str) -> str:
        y = x
        for _ in range(2):
            y = add("Conv", y, weight(WIDTH, WIDTH, 3, 3), pads=[1, 1, 1, 1])
            y = add("BatchNormalization", y, *(weight(WIDTH) for _ in range(4)))
        return add("Relu", add("Add", x, y))

    def transformer(x: str) -> str:
        y = add("LayerNormalization", x, weight(WIDTH), weight(WIDTH))
        q, k, v = (split(add("MatMul", y, weight(WIDTH, WIDTH))) for _ in range(3))
        scores = add("MatMul", q, add("Transpose", k, perm=[0, 1, 3, 2]))
        y = add("Transpose", add("MatMul", add("Softmax", scores), v), perm=[0, 2, 1, 3])
        y = add("MatMul", add("Reshape", y, shape_of(0, 0, -1)), weight(WIDTH, WIDTH))
        x = add("Add", x, y)
        y = add("MatMul", x, weight(WIDTH, 4 * WIDTH))
        return add("Add", x, add("MatMul", add("Relu", y), weight(4 * WIDTH, WIDTH)))

    def split(x: str) -> str:
        heads = shape_of(0, 0, HEADS, WIDTH // HEADS)
        return add("Transpose", add("Reshape", x, heads), perm=[0, 2, 1, 3])

    build: Callable[[str], str] = {"residual": convolutions, "transformer": transformer}[kind]
    first = {"residual": [1, 3, 8, 8], "transformer": [1, TOKENS, 3]}[kind]
    x = add("Conv", "x", weight(WIDTH, 3, 1, 1)) if kind == "residual" else ""
    x = x or add("MatMul", "x", weight(3, WIDTH))
    for _ in range(blocks):
        x = build(x)
    last = [1, 5, 8, 8] if kind == "residual" else [1, TOKENS, 5]
    y = add("Conv", x, weight(5, WIDTH, 1, 1)) if kind == "residual" else ""
    y = y or add("MatMul", x, weight(WIDTH, 5))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, kind, [info("x", 1, first)], [info(y, 1, last)], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


def apart(*arguments: str) -> tuple[dict[str, float], int]:
    """`measure` in a process of its own; what it says, and its peak anonymous memory."""
    usage = pinned([sys.executable, __file__, "--one", *arguments])
    return json.loads(usage.stdout or "{}"), usage.peak_anonymous


def main() -> int:
    """Measure the chains and the models; print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="*", type=Path)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        if len(a.one) == 1:
            print(json.dumps(measure(Path(a.one[0]))))
        else:
            make(a.one[0], int(a.one[1]), a.one[2])
        return 0
    figures = []
    with tempfile.TemporaryDirectory(prefix="prunec-") as folder:
        for kind in ("residual", "transformer"):
            per_block = []
            for blocks in LENGTHS:
                path = f"{folder}/{kind}{blocks}.onnx"
                apart(kind, str(blocks), path)
                seconds, memory = apart(path)
                per_block.append(seconds["couple"] / blocks)
                note = f"open {seconds['open']:.2f} s, {memory / 1e6:.0f} MB"
                name = f"{blocks} {kind} blocks, couple"
                figures.append(Figure(name, seconds["couple"], "s", note=note))
            ratio = per_block[-1] / per_block[-2]
            figures.append(Figure(f"{kind}: a block of 1000 over one of 100", ratio, "x", most=1.5))
    for path in a.model:
        seconds, memory = apart(str(path))
        note = f"open {seconds['open']:.2f} s"
        figures.append(Figure(f"{path.name}, couple", seconds["couple"], "s", most=3, note=note))
        figures.append(Figure(f"{path.name}, memory", memory / 1e6, "MB", most=300, form=".0f"))
    return report(figures)


if __name__ == "__main__":
    sys.exit(main())
