from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import conv
from properties.builder import Builder
from properties.oracle import Case, analyse, check

from prunec.compiler.freedom import Freedom
from prunec.frontends.onnx import load, to_proto
from prunec.passes.apply import prune
from prunec.passes.join import fit, side_by_side, slow_joins

pytest.importorskip("onnxruntime")

Mask = np.ndarray


def block(size: int = 4, opset: int = 17, space: int = 2, wide: int = 3) -> Case:
    """stem -> (a -> b) + stem -> head."""
    b = Builder(0, opset, batch=1)
    x = conv(b, b.input(1, 3, space, space), "stem", size)
    y = b.add("Add", [x, conv(b, conv(b, x, "a", wide), "b", size, 3)])
    b.output(conv(b, y, "head", 3))
    return analyse(b.model(), Freedom(decouple=True))


def keeping(case: Case, **kept: list[int]) -> Mask:
    mask = np.ones(case.graph.number_of_groups + 1, bool)
    for edge in case.graph.edges:
        name = edge.name.partition(":")[0]
        if name in kept:
            mask[edge.first : edge.first + edge.size] = False
            mask[edge.first + np.array(kept[name])] = True
    return mask


def emitted(case: Case, mask: Mask) -> onnx.ModelProto:
    check(case, mask)
    return to_proto(prune(case.model, case.facts, case.graph, mask))


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def of(*positions: int, size: int = 6) -> Mask:
    return np.isin(np.arange(size), positions)


@pytest.mark.parametrize(
    ("have", "want", "before", "after", "table"),
    [
        (of(1, 2), of(0, 1, 2, 5), 1, 1, None),
        (of(1, 2), of(1, 2, 5), 0, 1, None),
        (of(1, 3), of(0, 1, 3), 1, 0, None),  # together among what is wanted
        (of(1, 3), of(1, 2, 3), 0, 1, [0, 2, 1]),
        (of(0, 1, 2), of(1, 2), 0, 0, [1, 2]),
        (of(0, 1, 2), of(2, 4), 0, 1, [2, 3]),
        (of(0, 1), of(4, 5), 0, 1, [2, 2]),
    ],
)
def test_operands_get_zeros_around_or_between_and_lose_the_rest(
    have: Mask, want: Mask, before: int, after: int, table: list[int] | None
) -> None:
    found = fit(have, want)
    assert found is not None
    assert (found.before, found.after) == (before, after)
    assert (None if found.table is None else found.table.tolist()) == table
    # And that is what it does.
    operand = np.pad(np.flatnonzero(have) + 1, (before, after))
    result = operand if found.table is None else operand[found.table]
    assert result.tolist() == [k + 1 if have[k] else 0 for k in np.flatnonzero(want)]


def test_equal_sets_need_nothing() -> None:
    assert fit(of(1, 2), of(1, 2)) is None


def test_a_plain_addition_stays_plain() -> None:
    case = block()
    kept = {name: [0, 2] for name in ("stem", "b", "head")}
    assert ops(emitted(case, keeping(case, **kept))) == ["Conv", "Conv", "Conv", "Add", "Conv"]


def test_a_branch_that_writes_neighbours_is_padded() -> None:
    case = block()
    model = emitted(case, keeping(case, b=[1, 2]))
    (pad,) = (node for node in model.graph.node if node.op_type == "Pad")
    assert "Gather" not in ops(model)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert stored[pad.input[1]].tolist() == [0, 1, 0, 0, 0, 1, 0, 0]


def test_a_branch_that_writes_here_and_there_is_padded_and_picked() -> None:
    case = block()
    model = emitted(case, keeping(case, b=[0, 2]))
    assert ops(model) == ["Conv", "Conv", "Conv", "Pad", "Gather", "Add", "Conv"]


def test_a_forgotten_channel_is_left_behind() -> None:
    case = block()
    model = emitted(case, keeping(case, b=[0, 2], head=[0, 2]))
    assert ops(model) == ["Conv", "Gather", "Conv", "Conv", "Add", "Conv"]


@pytest.mark.parametrize("opset", [7, 10, 11, 18])
def test_old_operator_sets_are_padded_too(opset: int) -> None:
    case = block(opset=opset)
    for written in ([1, 2], [0, 3]):
        assert "Pad" in ops(emitted(case, keeping(case, b=written)))


def test_new_values_declare_their_shapes() -> None:
    case = block()
    model = emitted(case, keeping(case, b=[0, 2]))
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.value_info
    }
    new = [o for n in model.graph.node if n.op_type in ("Pad", "Gather") for o in n.output]
    assert [shapes[name] for name in new] == [[1, 3, 2, 2], [1, 4, 2, 2]]


def test_two_axes_may_be_decoupled_at_once() -> None:
    """Rows and columns of products of activations."""
    b = Builder(0, 17, batch=1)
    x = b.input(1, 3, 5)
    sides = []
    for _ in range(2):
        rows = b.add("MatMul", [x, b.integers(5, 4)], (1, 3, 4))
        columns = b.add("MatMul", [x, b.integers(5, 6)], (1, 3, 6))
        sides.append(b.add("MatMul", [b.transpose(rows, 0, 2, 1), columns], (1, 4, 6)))
    y = b.add("MatMul", [b.add("Add", sides), b.integers(6, 2)], (1, 4, 2))
    b.output(b.add("MatMul", [b.integers(3, 4), y], (1, 3, 2)))
    case = analyse(b.model(), Freedom(decouple=True))
    assert len(case.graph.joins) == 2
    rng = np.random.default_rng(0)
    for _ in range(8):
        mask = rng.random(case.graph.number_of_groups + 1) < 0.6
        mask[[-1, *(e.first for e in case.graph.edges)]] = True
        check(case, mask)


def test_the_same_file_comes_out_twice() -> None:
    case = block()
    mask = keeping(case, b=[0, 2], head=[0, 1, 3])
    first, second = (prune(case.model, case.facts, case.graph, mask) for _ in range(2))
    assert to_proto(first).SerializeToString() == to_proto(second).SerializeToString()
    assert ops(to_proto(load(to_proto(first)))) == ops(to_proto(first))


def test_an_addition_pays_where_whole_blocks_of_channels_leave() -> None:
    case = block(size=64, space=8, wide=32)
    node = case.graph.joins[0].node
    everything = keeping(case)
    assert slow_joins(case.graph, everything) == ()
    few, most = [*range(0, 64, 2)], [k for k in range(64) if k != 7]
    assert slow_joins(case.graph, keeping(case, b=few)) == ()
    assert slow_joins(case.graph, keeping(case, b=most)) == (node,)


def test_a_small_addition_never_pays() -> None:
    case = block()
    assert slow_joins(case.graph, keeping(case, b=[0])) == (case.graph.joins[0].node,)


@pytest.mark.parametrize(
    ("haves", "want", "order"),
    [
        ([of(0, 1), of(2, 3)], of(0, 1, 2, 3), [0, 1, 2, 3]),
        ([of(0, 3), of(1, 5)], of(0, 1, 3, 5), [0, 2, 1, 3]),
        ([of(0, 3), of(1, 5)], of(1, 3), [2, 1]),  # 0 and 5 are forgotten
        ([of(0, 3), of(1, 3)], of(0, 1, 3), None),  # 3 must be added
        ([of(0), of(1)], of(0, 1, 2), None),  # nobody has 2
        ([of(0, 3), of(1, 5)], of(1, 5), None),  # the first would lose its reader
        ([of(0), of(1), of(2)], of(0, 1, 2), [0, 1, 2]),
    ],
)
def test_channels_that_one_operand_has_need_no_addition(
    haves: list[Mask], want: Mask, order: list[int] | None
) -> None:
    found = side_by_side(haves, want)
    assert (None if found is None else found.tolist()) == order


def test_a_branch_that_writes_other_channels_is_put_beside_the_stream() -> None:
    case = block()
    name = case.graph.joins[0].node
    ordered = emitted(case, keeping(case, stem=[0, 1], b=[2, 3]))
    assert ops(ordered) == ["Conv", "Conv", "Conv", "Concat", "Conv"]
    mixed = emitted(case, keeping(case, stem=[0, 2], b=[1], head=[1, 2]))
    assert ops(mixed) == ["Conv", "Conv", "Conv", "Concat", "Gather", "Conv"]
    for model, op in ((ordered, "Concat"), (mixed, "Gather")):
        assert [node.op_type for node in model.graph.node if node.name == name] == [op]


def test_what_is_subtracted_is_never_put_beside() -> None:
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "stem", 4)
    b.output(conv(b, b.add("Sub", [x, conv(b, conv(b, x, "a", 3), "b", 4)]), "head", 3))
    case = analyse(b.model(), Freedom(decouple=True))
    assert "Sub" in ops(emitted(case, keeping(case, stem=[0, 1], b=[2, 3])))
