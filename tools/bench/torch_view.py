"""The torch view over folders of models: which it runs, and does it compute what onnxruntime does?

    python tools/bench/torch_view.py DIR_OR_FILE... [--match '*.onnx'] [--inside] [--table out.md]

Every file is fed random inputs (batch 2 where it is free). The difference of an output is the
largest difference of its elements over the largest magnitude of that output, so that random
weights, whose outputs have any scale, are judged alike; --inside holds every value that both
compute against each other, not only the outputs: a random deep net's output may hardly depend on
what is before it. Bars by element type, in TOLERANCE. Quantised values may fall to the other side
of a rounding: a step of the quantiser is allowed where a file quantises. Files that onnxruntime
cannot run are held against onnx's reference, or named. Exits with 1 when a claimed file differs.
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx.reference import ReferenceEvaluator

from prunec.compiler.errors import ModelError, PrunecError
from prunec.runtime.inputs import Array, Feeds, model_inputs, random_feeds
from prunec.runtime.session import make_session
from prunec.runtime.torch_view import TorchView, torch_view
from prunec.runtime.torch_view.tensors import from_numpy, to_numpy

# Sums in another order (float32, hundreds of layers), or the rounding of the element type.
TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "float16": 5e-3, "bfloat16": 4e-2}
QUANTISED = 2e-2  # of a file that quantises: one step of 8 bits at one place
RANDOM = frozenset(["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"]) | frozenset(
    ["RandomUniform", "RandomUniformLike"]
)
MOST_INSIDE = 3000  # values compared by --inside
MOST_BYTES = 2**20  # of files for onnx's reference, which is slow
BAD = ("DIFFERS", "CRASHED")


@dataclass(slots=True)
class Row:
    """One file. difference: the largest; seconds: of a forward pass, here and in onnxruntime."""

    file: str
    result: str = "CRASHED"
    parameters: int = 0
    difference: float | None = None
    tolerance: float = 0.0
    values: int = 0
    seconds: float = 0.0
    reference: float = 0.0
    detail: str = ""


def check(path: Path, a: argparse.Namespace) -> Row:
    """Claimed or not, and how far from onnxruntime."""
    row = Row(path.name)
    try:
        view = torch_view(path).eval()
    except ModelError as error:
        row.result, row.detail = "not claimed", str(error)
        return row
    row.parameters = sum(p.numel() for p in view.parameters())
    model = ir.load(path)
    feeds = random_feeds(model_inputs(model), batch=2)
    wanted = _wanted(view, model, a.inside)
    fed = {name: from_numpy(x) for name, x in feeds.items()}
    try:
        want, row.reference = _theirs(path, wanted, feeds)
    except PrunecError as error:
        return _without_onnxruntime(path, view, feeds, row, str(error))
    names = [name for name in wanted if name in want]
    with torch.no_grad():
        row.seconds = _best(lambda: view(fed))
        have = {name: to_numpy(x) for name, x in view(fed, names).items()}
    row.values, row.tolerance = len(names), _tolerance(model)
    found = [(_difference(have[name], want[name]), name) for name in names]
    row.difference, worst = max(found, default=(0.0, ""))
    row.result = "equal" if row.difference <= row.tolerance else "DIFFERS"
    row.detail = "" if row.result == "equal" else f"value {worst!r}"
    if any(node.op_type in RANDOM for node in model.graph):
        row.result, row.detail = "random", "draws random numbers: not comparable"
    return row


def _without_onnxruntime(path: Path, view: TorchView, feeds: Feeds, row: Row, why: str) -> Row:
    """Against onnx's reference; a model that nobody runs is named."""
    row.result, row.detail = "no reference", why
    if path.stat().st_size > MOST_BYTES:
        return row
    try:
        want = ReferenceEvaluator(str(path)).run(None, feeds)
        with torch.no_grad():
            have = view({name: from_numpy(x) for name, x in feeds.items()})
    except Exception as error:
        row.detail = f"{why}; and {type(error).__name__} here"
        return row
    pairs = zip(have.values(), want, strict=True)
    row.values, row.tolerance = len(want), _tolerance(ir.load(path))
    row.difference = max(_difference(to_numpy(a), np.asarray(b)) for a, b in pairs)
    row.result = "equal" if row.difference <= row.tolerance else "DIFFERS"
    row.detail = "(onnx's reference)"
    return row


def _wanted(view: TorchView, model: ir.Model, inside: bool) -> list[str]:
    outputs = [str(v.name) for v in model.graph.outputs]
    if not inside:
        return outputs
    # A Dropout told to drop does so in onnxruntime even in inference, unless it is optimised away.
    if any(node.op_type == "Dropout" and len(node.inputs) > 2 for node in model.graph):
        return outputs
    # Quantised values are floats in the view where that lets gradients through.
    made = {
        str(v.name)
        for node in model.graph
        for v in node.outputs
        if v.name and not node.op_type.endswith("QuantizeLinear")
    }
    inner = [name for name in view.computed if name in made and name not in outputs]
    return [*outputs, *inner[:MOST_INSIDE]]


def _theirs(path: Path, wanted: list[str], feeds: Feeds) -> tuple[dict[str, Array], float]:
    """What onnxruntime computes for the values that it has, and seconds of a whole pass."""
    plain = make_session(path, threads=1)
    # With other outputs onnxruntime can't fuse across them, so each is what the graph says.
    proto = onnx.load(str(path))
    told = {v.name for v in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in wanted if n not in told)
    session = plain
    if len(wanted) > len(told):
        session = make_session(proto.SerializeToString(), threads=1, optimise=False)
    values = dict(zip(wanted, session.run(feeds, wanted), strict=True))
    return values, _best(lambda: plain.run(feeds))


def _best(run: object, repeats: int = 2) -> float:
    assert callable(run)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _tolerance(model: ir.Model) -> float:
    ops = {node.op_type for node in model.graph}
    if ops & {"QuantizeLinear", "DynamicQuantizeLinear"}:
        return QUANTISED
    kinds = {np.dtype(v.dtype.numpy()).name for n in model.graph for v in n.outputs if v.dtype}
    stored = [v.dtype for v in model.graph.initializers.values()]
    kinds |= {np.dtype(d.numpy()).name for d in stored if d is not None}
    return max((TOLERANCE[k] for k in kinds if k in TOLERANCE), default=TOLERANCE["float32"])


def _difference(have: Array, want: Array) -> float:
    """Relative to the largest magnitude; infinite where shapes, types or non-finite ones differ."""
    if have.shape != want.shape or have.dtype.kind != want.dtype.kind:
        return np.inf
    if not want.size:
        return 0.0
    if want.dtype.kind in "biu":
        return float((have != want).mean())
    a, b = have.astype(np.float64), want.astype(np.float64)
    whole = np.isfinite(b)
    if not np.array_equal(a[~whole], b[~whole], equal_nan=True):
        return np.inf
    largest = np.abs(b[whole]).max(initial=0.0)
    worst = np.abs(a - b)[whole].max(initial=0.0)
    return float(worst / largest) if largest else float(worst)


def _files(places: list[Path], match: str) -> Iterator[Path]:
    for place in places:
        yield from sorted(place.glob(match)) if place.is_dir() else [place]


def _line(row: Row) -> str:
    if row.difference is None:
        return f"{row.file:55} {row.result:12} {row.detail}"
    ratio = row.seconds / row.reference if row.reference else 0.0
    return (
        f"{row.file:55} {row.result:8} {row.difference:8.1e} of {row.tolerance:5.0e} in "
        f"{row.values:4} values, {row.seconds * 1e3:8.1f} ms, {ratio:5.1f} x onnxruntime "
        f"{row.detail}"
    )


def main() -> int:
    """Check every file, print the table and its totals."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("places", type=Path, nargs="+", help="model files, or folders of them")
    p.add_argument("--match", default="*.onnx", help="which files of a folder")
    p.add_argument("--inside", action="store_true", help="compare every value, not only outputs")
    p.add_argument("--part", default="1/1", help="k/n: only the k-th of n parts of the files")
    p.add_argument("--table", type=Path, help="write the lines there too")
    a = p.parse_args()
    torch.set_num_threads(1)
    k, n = (int(number) for number in a.part.split("/"))
    rows = []
    for path in list(_files(a.places, a.match))[k - 1 :: n]:
        try:
            row = check(path, a)
        except Exception as error:  # a benchmark goes on, and says what fell over
            row = Row(path.name, detail=f"{type(error).__name__}: {str(error).splitlines()[:1]}")
        rows.append(row)
        print(_line(row), flush=True)
    counts = collections.Counter(row.result for row in rows)
    total = ", ".join(f"{count} {result}" for result, count in sorted(counts.items()))
    print(f"{len(rows)} files: {total}")
    if a.table:
        a.table.write_text("\n".join([*map(_line, rows), f"{len(rows)} files: {total}", ""]))
    return 1 if any(row.result in BAD for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
