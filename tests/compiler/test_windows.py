"""Which positions of a kernel may be left out, and when none may."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import onnx
import pytest
from properties.builder import Builder
from properties.oracle import analyse

from prunec.compiler.errors import UsageError
from prunec.compiler.freedom import Freedom, frees_kernels
from prunec.compiler.reasons import Reason
from prunec.compiler.windows import subsets

KERNELS = Freedom(kernels=True)


def named(model: onnx.ModelProto) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Hyperedge -> its allowed sets."""
    graph = analyse(model, KERNELS).graph
    return {graph.edges[e].name: own for e, own in graph.subsets.items()}


def one(kernel: tuple[int, int], opset: int = 17, **attributes: object) -> onnx.ModelProto:
    """A convolution of an image of 8 x 8, and nothing else."""
    b = Builder(0, opset, batch=1)
    w = b.store(np.ones((4, 3, *kernel), np.float32), "w")
    x = b.add("Conv", [b.input(1, 3, 8, 8), w], (), **attributes)
    b.output(x)
    b.shapes[x] = sizes(kernel, attributes)
    return b.model()


def sizes(kernel: tuple[int, int], attributes: dict[str, object]) -> tuple[int, ...]:
    strides = attributes.get("strides", [1, 1])
    if str(attributes.get("auto_pad", "")).startswith("SAME"):
        return (1, 4, *(-(-8 // s) for s in strides))
    pads = np.reshape(attributes.get("pads", [0] * 4), (2, 2)).sum(0)
    spans = [
        (k - 1) * d + 1 for k, d in zip(kernel, attributes.get("dilations", [1, 1]), strict=True)
    ]
    return (
        1,
        4,
        *((8 + int(p) - n) // s + 1 for p, n, s in zip(pads, spans, strides, strict=True)),
    )


def exact(kept: tuple[int, ...], size: int, before: int, after: int, dilation: int) -> bool:
    """Whether some kernel of as many positions reads the same places: tried, not derived.

    At an input of 40, stride 1: the places that every output reads, with pads of all lengths.
    """
    length = 40
    outputs = length + before + after - (size - 1) * dilation
    wanted = [k * dilation - before for k in kept]
    for step in range(1, size * dilation + 1):
        for pad in range(before + after + 1):
            behind = outputs - length - pad + (len(kept) - 1) * step
            if behind >= 0 and [k * step - pad for k in range(len(kept))] == wanted:
                return True
    return False


@pytest.mark.parametrize("size", range(1, 6))
@pytest.mark.parametrize("dilation", [1, 2])
def test_exactly_the_sets_that_a_convolution_can_express_are_listed(
    size: int, dilation: int
) -> None:
    span = (size - 1) * dilation
    for before in range(span + 1):
        for after in range(span + 1):
            want = {
                kept
                for n in range(1, size + 1)
                for kept in combinations(range(size), n)
                if exact(kept, size, before, after, dilation)
            }
            assert set(subsets(size, before, after, dilation)) == want, (before, after)


def test_smaller_sets_come_first_and_the_middle_before_the_rim() -> None:
    found = subsets(5, 2, 2, 1)
    assert [len(s) for s in found] == sorted(len(s) for s in found)
    assert found[0] == (2,)
    assert found[1:4] == ((1, 2), (2, 3), (1, 3))
    assert found[-1] == (0, 1, 2, 3, 4)


def test_rows_and_columns_are_hyperedges_of_their_own() -> None:
    found = named(one((3, 5), pads=[1, 2, 1, 2]))
    assert found.keys() == {"w:2", "w:3"}
    assert found["w:2"] == ((1,), (0, 1), (1, 2), (0, 2), (0, 1, 2))
    assert (1, 2, 3) in found["w:3"]


def test_costs_have_the_positions_as_factors() -> None:
    graph = analyse(one((3, 3), pads=[1, 1, 1, 1]), KERNELS).graph
    assert graph.costs["flops"]((3, 3)) == 8 * 8 * 4 * 3 * 9
    assert graph.costs["flops"]((1, 3)) == 8 * 8 * 4 * 3 * 3
    assert graph.costs["params"]((1, 1)) == 4 * 3


def test_without_the_freedom_kernels_stay() -> None:
    graph = analyse(one((3, 3), pads=[1, 1, 1, 1])).graph
    assert not graph.edges
    assert not graph.subsets


def test_pads_that_leave_no_position_out_keep_the_axis() -> None:
    found = named(one((2, 3), pads=[0, 1, 0, 1]))
    assert found.keys() == {"w:3"}
    why = analyse(one((2, 3), pads=[0, 1, 0, 1]), KERNELS).graph.trace.ties
    assert any(t.barrier is Reason.SPATIAL_AXIS and "leave none out" in t.reason for t in why)


@pytest.mark.parametrize(("auto", "pads"), [("SAME_UPPER", [0, 1]), ("SAME_LOWER", [1, 0])])
def test_pads_by_name_are_those_that_they_stand_for(auto: str, pads: list[int]) -> None:
    found = named(one((2, 2), auto_pad=auto))
    assert set(found["w:2"]) == set(subsets(2, *pads, 1))


def test_pads_that_a_free_size_decides_keep_the_kernel() -> None:
    model = one((3, 3), auto_pad="SAME_UPPER", strides=[2, 2])
    assert named(model)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "half"
    assert not named(model)


def test_sizes_that_the_file_does_not_repeat_are_known_all_the_same() -> None:
    """Without declared shapes inside, only the input says that no size is free."""
    b = Builder(0, 17, batch=1)
    x = b.add("Relu", [b.input(1, 3, 8, 8)])
    w = b.store(np.ones((4, 3, 3, 3), np.float32), "w")
    same = {"auto_pad": "SAME_UPPER", "strides": [2, 2]}
    b.output(b.add("Conv", [x, w], (1, 4, 4, 4), **same))
    model = b.model()
    del model.graph.value_info[:]
    assert named(model).keys() == {"w:2", "w:3"}


def test_a_shared_weight_keeps_to_what_all_its_readers_can_do() -> None:
    b = Builder(0, 17, batch=1)
    x = b.input(1, 4, 8, 8)
    w = b.store(np.ones((4, 4, 3, 3), np.float32), "w")
    left = b.add("Conv", [x, w], (1, 4, 8, 8), pads=[1, 1, 1, 1])
    right = b.add("Conv", [x, w], (1, 4, 8, 8), pads=[0, 1, 2, 1])
    b.output(b.add("Add", [left, right]))
    found = named(b.model())
    assert found["w:2"] == ((0, 1), (0, 2), (0, 1, 2))  # the second has no pad before
    assert len(found["w:3"]) == 5


def test_positions_that_something_else_reads_keep_the_axis() -> None:
    """Half of the columns of a weight that is cut before it is read."""
    b = Builder(0, 17, batch=1)
    w = b.store(np.ones((4, 3, 1, 5), np.float32), "w")
    cut = b.add("Slice", [w, b.ints([1]), b.ints([4]), b.ints([3])], (4, 3, 1, 3))
    x = b.input(1, 3, 1, 8)
    one, other = (
        b.add("Conv", [x, v], (1, 4, 1, 8), pads=[0, p, 0, p]) for v, p in ((w, 2), (cut, 1))
    )
    b.output(b.add("Add", [one, other]))
    assert not named(b.model())


def test_modes_are_names() -> None:
    assert frees_kernels("layer")
    assert not frees_kernels("none")
    with pytest.raises(UsageError, match="did you mean 'layer'"):
        frees_kernels("layers")
