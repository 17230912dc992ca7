"""Gated dense == pruned and polynomial == recount where kernels lose rows and columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from properties.builder import Builder
from properties.fused import FUSED
from properties.graphs import BLOCKS, one_block, random_graph
from properties.oracle import analyse, check, random_masks

from prunec.compiler.freedom import Freedom

pytest.importorskip("onnxruntime")

KERNELS = Freedom(kernels=True)
GROUPS = {"plain": 1, "grouped": 2, "depthwise": 4}


def sliding(seed: int) -> onnx.ModelProto:
    """Convolutions of all pads, strides, dilations and kernels, one behind the other."""
    b = Builder(seed, (11, 13, 17, 18)[seed % 4], batch=1)
    rank = b.pick((1, 2, 2, 3))
    x = b.input(1, 4, *[b.pick((7, 8, 9)) for _ in range(rank)])
    for _ in range(3):
        x = b.tame(convolution(b, x, transposed=b.chance(0.3)))
    b.output(b.conv(x, 3, k=b.pick((1, 3))))
    return b.model()


def convolution(b: Builder, x: str, transposed: bool) -> str:
    n, c, *space = b.shapes[x]
    rank, group = len(space), GROUPS[b.pick(sorted(GROUPS))]
    kernel = [b.pick((1, 2, 3, 3, 4, 5)) for _ in range(rank)]
    strides, dilations = ([b.pick((1, 1, 2)) for _ in range(rank)] for _ in range(2))
    autos = ("NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    auto = "NOTSET" if transposed else b.pick(autos)
    if auto.startswith("SAME"):  # onnxruntime has no dilation with these
        dilations = [1] * rank
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    attributes = {"strides": strides, "dilations": dilations, "group": group}
    pads = np.zeros((2, rank), int)
    if auto == "NOTSET":
        pads = np.array([[b.rng.integers(0, span) for span in spans] for _ in "ab"])
        attributes["pads"] = pads.reshape(-1).tolist()
    else:
        attributes["auto_pad"] = auto
    if b.chance():
        attributes["kernel_shape"] = kernel
    rows = zip(space, strides, spans, pads.sum(0).tolist(), strict=True)
    if transposed:
        out = [s * (size - 1) + span - pad for size, s, span, pad in rows]
        w = b.integers(c, 4 // group, *kernel)
    else:
        same = auto.startswith("SAME")
        out = [-(-z // s) if same else (z + p - span) // s + 1 for z, s, span, p in rows]
        w = b.integers(4, c // group, *kernel)
    if min(out) < 3 or max(out) > 12:
        return b.relu(x)
    op = "ConvTranspose" if transposed else "Conv"
    return b.add(op, [x, w], (n, 4, *out), **attributes)


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_gated_equals_pruned_without_positions_of_kernels(first: int) -> None:
    for seed in range(first, first + 10):
        subject = analyse(sliding(seed), KERNELS)
        for number, mask in enumerate(random_masks(subject.graph, seed, 2)):
            check(subject, mask, seed, full=number == 0)


def test_most_of_them_may_lose_positions() -> None:
    found = [len(analyse(sliding(seed), KERNELS).graph.subsets) for seed in range(20)]
    assert sum(found) > 40


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_gated_equals_pruned_around_one_block(name: str) -> None:
    subject = analyse(one_block(name, 100), KERNELS)
    (mask,) = random_masks(subject.graph, 100, 1)
    check(subject, mask, 100)


@pytest.mark.parametrize("name", ["convolved", "convolved in groups"])
def test_gated_equals_pruned_in_fused_convolutions(name: str) -> None:
    subject = replace(analyse(FUSED[name](), KERNELS), tolerance=1e-5)
    assert subject.graph.subsets
    for mask in random_masks(subject.graph, 0, 2):
        check(subject, mask)


def test_gated_equals_pruned_on_random_graphs() -> None:
    for seed in range(20):
        subject = analyse(random_graph(seed), KERNELS)
        (mask,) = random_masks(subject.graph, seed, 1)
        check(subject, mask, seed)
