"""Ways to add a branch that writes fewer channels than the stream has, timed in onnxruntime.

    python tools/bench/joins.py [--share 0.75] [--blocks 4] [--rounds 20] [--threads 1]

Each row is a chain of residual blocks (3x3 convolution, Relu, 3x3 convolution, Add, Relu; batch 1)
of so many channels and pixels. `coupled` writes and reads every channel; in all other columns the
branch writes a share of them. Numbers are microseconds a block, medians of interleaved runs.

    zero rows      the convolution writes zeros for what it does not write: nothing is saved
    pad            written channels lie together: Pad with zeros, Add
    part           written channels lie together: Slice, Add, Concat with the untouched rest
    pad+gather     written channels lie anywhere: a zero channel is appended, Gather, Add
    pieces         the same: Split, Concat with zero blocks between the pieces, Add
    scatter        the same: ScatterElements adds into the stream (it knows no dynamic size)
    forget slice   the block after reads a share of the stream that lies together: Slice, Add
    forget gather  that lies anywhere: Gather, Add
    apart add      stream and branch have half of the channels each: Pad and Gather both, Add
    apart concat   the same: Concat, Gather

The last two are other networks than the rest: compare them with each other. The rule of
passes/join.py and its constants come from this table.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from prunec.runtime.bench import bench

SIZES = ((16, 56), (16, 32), (32, 16), (64, 56), (64, 8), (128, 28), (256, 14), (512, 7))
Positions = NDArray[np.int64]


@dataclass
class Net:
    """A graph that is being written. x: the stream; channels: how many it has now."""

    pixels: int
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []

    def store(self, array: NDArray[np.generic]) -> str:
        """A new initializer."""
        name = f"w{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(array, name))
        return name

    def ints(self, *values: int) -> str:
        """A new initializer of integers."""
        return self.store(np.array(values, np.int64))

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        """A new node with one output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def conv(self, x: str, read: int, written: int) -> str:
        """A 3x3 convolution that reads and writes so many channels."""
        weight = self.rng.standard_normal((written, read, 3, 3)) / (3 * read**0.5)
        inputs = [x, self.store(weight.astype(np.float32)), self.store(np.zeros(written, "f"))]
        return self.add("Conv", *inputs, pads=[1, 1, 1, 1])

    def cut(self, x: str, first: int, last: int) -> str:
        """Channels from one position to another."""
        return self.add("Slice", x, self.ints(first), self.ints(last), self.ints(1))

    def save(self, path: Path, channels: int, out: str) -> Path:
        """Write the model. channels: of its input; out: the value that it gives."""

        def info(name: str, n: int | None) -> onnx.ValueInfoProto:
            shape = None if n is None else [1, n, self.pixels, self.pixels]
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        graph = helper.make_graph(
            self.nodes, "joins", [info("x", channels)], [info(out, None)], self.stored
        )
        opset = [helper.make_opsetid("", 18)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
        return path


Join = Callable[[Net, str, str, int, Positions], str]


def plain(net: Net, x: str, u: str, size: int, at: Positions) -> str:
    """What a coupled stream does."""
    return net.add("Add", x, u)


def pad(net: Net, x: str, u: str, size: int, at: Positions) -> str:
    """Zeros around the branch, then the sum."""
    amounts = net.ints(0, at[0], 0, 0, 0, size - 1 - at[-1], 0, 0)
    return net.add("Add", x, net.add("Pad", u, amounts))


def part(net: Net, x: str, u: str, size: int, at: Positions) -> str:
    """The sum of what is written, between the untouched rest."""
    first, last = int(at[0]), int(at[-1]) + 1
    pieces = [net.add("Add", net.cut(x, first, last), u)]
    pieces = [net.cut(x, 0, first), *pieces] if first else pieces
    pieces = [*pieces, net.cut(x, last, size)] if last < size else pieces
    return net.add("Concat", *pieces, axis=1)


def pad_gather(net: Net, x: str, u: str, size: int, at: Positions) -> str:
    """A zero channel that a Gather picks wherever the branch writes nothing."""
    longer = net.add("Pad", u, net.ints(0, 0, 0, 0, 0, 1, 0, 0))
    table = np.full(size, len(at))
    table[at] = np.arange(len(at))
    return net.add("Add", x, net.add("Gather", longer, net.ints(*table), axis=1))


def apart_add(net: Net, x: str, u: str, size: int, at: Positions) -> str:
    """Zeros in both, then a sum that never adds two numbers."""
    longer = net.add("Pad", x, net.ints(0, 0, 0, 0, 0, 1, 0, 0))
    table = np.full(size, size - len(at))
    table[np.setdiff1d(np.arange(size), at)] = np.arange(size - len(at))
    return pad_gather(net, net.add("Gather", longer, net.ints(*table), axis=1), u, size, at)


def apart_concat(net: Net, x: str, u: str, size: int, at: Positions) -> str:
    """Both one after the other, then in order."""
    table = np.zeros(size, np.int64)
    table[np.concatenate([np.setdiff1d(np.arange(size), at), at])] = np.arange(size)
    return net.add("Gather", net.add("Concat", x, u, axis=1), net.ints(*table), axis=1)


def pieces(net: Net, x: str, u: str, size: int, at: Positions) -> str:
    """Blocks of zeros between the pieces of the branch."""
    parts: list[str] = []
    ends = np.flatnonzero(np.diff(at) != 1) + 1
    position = 0
    for run in np.split(np.arange(len(at)), ends):
        if at[run[0]] > position:
            parts.append(_zeros(net, int(at[run[0]]) - position))
        parts.append(net.cut(u, int(run[0]), int(run[-1]) + 1))
        position = int(at[run[-1]]) + 1
    if position < size:
        parts.append(_zeros(net, size - position))
    return net.add("Add", x, net.add("Concat", *parts, axis=1))


def _zeros(net: Net, channels: int) -> str:
    return net.store(np.zeros((1, channels, net.pixels, net.pixels), np.float32))


def scatter(net: Net, x: str, u: str, size: int, at: Positions) -> str:
    """One node that adds at the written positions."""
    shape = (1, len(at), net.pixels, net.pixels)
    table = np.broadcast_to(at[None, :, None, None], shape).astype(np.int64)
    return net.add("ScatterElements", x, net.store(table), u, axis=1, reduction="add")


def forget_slice(net: Net, x: str, u: str, size: int, at: Positions) -> str:
    """The stream without its last channels."""
    return net.add("Add", net.cut(x, int(at[0]), int(at[-1]) + 1), u)


def forget_gather(net: Net, x: str, u: str, size: int, at: Positions) -> str:
    """The stream without some of its channels."""
    return net.add("Add", net.add("Gather", x, net.ints(*at), axis=1), u)


@dataclass(frozen=True)
class Column:
    """A way to join. scattered: written channels lie anywhere. fewer: the branch writes fewer.

    forgets: the stream loses what is not written. apart: it has what is not written, no more.
    """

    name: str
    join: Join
    scattered: bool = False
    fewer: bool = True
    forgets: bool = False
    apart: bool = False


COLUMNS = (
    Column("coupled", plain, fewer=False),
    Column("pad", pad),
    Column("part", part),
    Column("pad+gather", pad_gather, scattered=True),
    Column("pieces", pieces, scattered=True),
    Column("scatter", scatter, scattered=True),
    Column("forget slice", forget_slice, forgets=True),
    Column("forget gather", forget_gather, scattered=True, forgets=True),
    Column("apart add", apart_add, scattered=True, apart=True),
    Column("apart concat", apart_concat, scattered=True, apart=True),
)


def written(path: Path, column: Column, channels: int, pixels: int, share: float, n: int) -> Path:
    """Write the chain of `n` blocks that a cell of the table times."""
    rng = np.random.default_rng(0)
    net = Net(pixels, rng)
    x, size = "x", channels
    for number in range(n):
        if column.forgets and number % 2:  # every second block widens it again: the same work
            inner = net.add("Relu", net.conv(x, size, channels))
            x, size = net.add("Relu", net.conv(inner, channels, channels)), channels
            continue
        some = size // 2 if column.apart else max(1, round(share * size))
        at = np.arange(some)
        if column.scattered:
            at = np.sort(rng.choice(size, some, replace=False))
        count = some if column.fewer else size
        stream = size - some if column.apart else size
        x = net.add("Relu", net.conv(x, size, stream)) if column.apart else x
        inner = net.add("Relu", net.conv(x, stream, channels))
        x = net.add("Relu", column.join(net, x, net.conv(inner, channels, count), size, at))
        size = some if column.forgets else size
    return net.save(path, channels, x)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=0.75)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=6.0, help="at most, per row")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print("channels px " + "".join(f"{c.name:>15}" for c in COLUMNS))
    for channels, pixels in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            paths = [
                written(
                    Path(folder) / f"{k}.onnx", c, channels, pixels,
                    arguments.share, arguments.blocks,
                )
                for k, c in enumerate(COLUMNS)
            ]  # fmt: skip
            result = bench(
                paths,
                threads=arguments.threads,
                rounds=arguments.rounds,
                seconds=arguments.seconds,
            )
        times = [m.median_s / arguments.blocks * 1e6 for m in result.models]
        print(f"{channels:8} {pixels:2} " + "".join(f"{t:15.1f}" for t in times), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
