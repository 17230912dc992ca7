from __future__ import annotations

import numpy as np
import pytest
from sites import run

from prunec.compiler.labels import Reindex, Resize
from prunec.compiler.site import Unsupported

IMAGE = (2, 6, 4)
FAR = 2**31 - 1


def test_concat_keeps_branch_order() -> None:
    ran = run("Concat", [(2, 4), (2, 3)], [(2, 7)], axis=1)
    assert ran.tied(ran.outs[0][1], np.concatenate([ran.ins[0][1], ran.ins[1][1]]))


def test_concat_ties_the_axes_beside_it() -> None:
    ran = run("Concat", [(2, 4), (2, 3)], [(2, 7)], axis=-1)
    assert ran.tied(ran.ins[0][0], ran.ins[1][0])


def test_concat_passes_over_an_empty_input() -> None:
    ran = run("Concat", [(2, 4), (0, 4), (3, 4)], [(5, 4)], axis=0)
    assert ran.tied(ran.ins[0][1], ran.ins[2][1])


@pytest.mark.parametrize(
    ("opset", "options", "key"),
    [
        (11, {"split": [2, 4]}, "split"),
        (13, {"constants": {1: [2, 4]}}, 1),
        (18, {"num_outputs": 2}, 1),
    ],
)
def test_split_cuts_labels_and_follows_its_sizes(opset: int, options: dict, key: object) -> None:
    shapes = [IMAGE, (2,)] if "constants" in options else [IMAGE]
    sizes = (3, 3) if "num_outputs" in options else (2, 4)
    outs = [(2, n, 4) for n in sizes]
    ran = run("Split", shapes, outs, axis=1, opset=opset, **options)
    assert ran.tied(np.concatenate([out[1] for out in ran.outs]), ran.ins[0][1])
    (patch,) = ran.c.patches
    assert isinstance(patch, Resize)
    assert (patch.key, patch.value) == (key, sizes)
    assert patch.drop == ("num_outputs",)


def test_split_by_sizes_of_the_data_is_not_supported() -> None:
    with pytest.raises(Unsupported, match="sizes depends on the data"):
        run("Split", [IMAGE, (2,)], [(2, 3, 4), (2, 3, 4)], axis=1)


def cut(start: int, end: int, step: int, size: int, axis: int = 1, **options: object):
    constants = {1: [start], 2: [end], 3: [axis], 4: [step]}
    return run("Slice", [IMAGE, (1,), (1,), (1,), (1,)], [(2, size, 4)], constants=constants)


def test_slice_keeps_a_window_of_labels() -> None:
    ran = cut(1, 4, 1, 3)
    assert ran.outs[0][1].tolist() == ran.ins[0][1][1:4].tolist()


def test_slice_bounds_follow_what_is_kept_before_them() -> None:
    ran = cut(1, 4, 1, 3)
    starts, ends = ran.c.patches
    assert [len(a) for _, a in starts.elements] == [1]
    assert [len(a) for _, a in ends.elements] == [4]


def test_slice_bounds_at_the_edges_stay() -> None:
    assert cut(0, FAR, 1, 6).c.patches == []


def test_slice_counts_from_the_end_become_counts_from_the_start() -> None:
    starts, _ = cut(-2, 6, 1, 2).c.patches
    assert starts.value == (4,)


def test_a_strided_slice_becomes_a_gather() -> None:
    (patch,) = cut(0, FAR, 2, 3).c.patches
    assert isinstance(patch, Reindex)
    assert patch.key is None
    assert patch.indices.tolist() == [0, 2, 4]


def test_a_reversed_slice_reverses_labels() -> None:
    ran = cut(-1, -FAR, -1, 6)
    assert ran.outs[0][1].tolist() == ran.ins[0][1][::-1].tolist()


def test_a_strided_slice_over_several_axes_freezes_the_strided_ones() -> None:
    constants = {1: [0, 0], 2: [6, 4], 3: [1, 2], 4: [2, 1]}
    ran = run("Slice", [IMAGE, *[(2,)] * 4], [(2, 3, 4)], constants=constants)
    assert ran.frozen(ran.ins[0][1])


def test_slice_attributes_of_opset_9_are_read() -> None:
    ran = run("Slice", [IMAGE], [(2, 3, 4)], axes=[1], starts=[1], ends=[4], opset=9)
    assert [p.key for p in ran.c.patches] == ["starts", "ends"]


def test_slice_by_data_is_not_supported() -> None:
    with pytest.raises(Unsupported, match="bounds depend on the data"):
        run("Slice", [IMAGE, (1,), (1,)], [(2, 3, 4)])


def test_slice_by_data_that_cuts_nothing_passes() -> None:
    ran = run("Slice", [IMAGE, (1,), (1,)], [IMAGE])
    assert ran.outs[0] is ran.ins[0]


def test_gather_picks_labels() -> None:
    ran = run("Gather", [IMAGE, (3,)], [(2, 3, 4)], constants={1: [5, 0, -6]}, axis=1)
    assert ran.outs[0][1].tolist() == ran.ins[0][1][[5, 0, 0]].tolist()
    (patch,) = ran.c.patches
    assert patch.indices.tolist() == [5, 0, 0]


@pytest.mark.parametrize("index", [2, [2]])
def test_gather_of_one_channel_keeps_it(index: object) -> None:
    shape = np.shape(index)
    out = (2, *shape, 4)
    ran = run("Gather", [IMAGE, shape], [out], constants={1: index}, axis=1)
    assert ran.frozen(ran.ins[0][1][2])
    assert ran.apart(ran.ins[0][1][:2])


def test_gather_by_data_freezes_the_axis() -> None:
    ran = run("Gather", [IMAGE, (3,)], [(2, 3, 4)], axis=1)
    assert ran.frozen(ran.ins[0][1])
    assert ran.outs[0][1] is ran.ins[1][0]


def test_gather_with_a_table_splits_the_axis() -> None:
    table = [[0, 1, 2], [3, 4, 5]]
    ran = run("Gather", [IMAGE, (2, 3)], [(2, 2, 3, 4)], constants={1: table}, axis=1)
    rows, columns = ran.outs[0][1:3]
    grid = ran.ins[0][1].reshape(2, 3)
    assert ran.tied(grid, columns[None, :]) or ran.tied(grid, rows[:, None])


def test_pad_adds_channels_at_both_ends() -> None:
    pads = [0, 1, 0, 0, 2, 0]
    ran = run("Pad", [IMAGE, (6,)], [(2, 9, 4)], constants={1: pads})
    assert ran.outs[0][1][1:7].tolist() == ran.ins[0][1].tolist()
    (patch,) = ran.c.patches
    assert [(k, len(a)) for k, a in patch.elements] == [(1, 1), (4, 2)]


def test_pad_reads_the_attribute_of_opset_9() -> None:
    ran = run("Pad", [IMAGE], [(2, 7, 4)], pads=[0, 1, 0, 0, 0, 0], opset=9)
    assert [p.key for p in ran.c.patches] == ["pads"]


def test_pad_reads_axes() -> None:
    ran = run(
        "Pad", [IMAGE, (2,), None, (1,)], [(2, 7, 4)], constants={1: [0, 1], 3: [-2]}, opset=18
    )
    assert ran.apart(ran.outs[0][1])


@pytest.mark.parametrize(("mode", "amount"), [("edge", 1), ("reflect", 1), ("constant", -1)])
def test_pads_that_repeat_or_cut_channels_freeze_them(mode: str, amount: int) -> None:
    pads = [0, 0, 0, 0, amount, 0]
    ran = run("Pad", [IMAGE, (6,)], [(2, 6 + amount, 4)], constants={1: pads}, mode=mode)
    assert ran.frozen(ran.ins[0][1])


def test_pad_by_data_is_not_supported() -> None:
    with pytest.raises(Unsupported, match="pads depends on the data"):
        run("Pad", [IMAGE, (6,)], [IMAGE])
