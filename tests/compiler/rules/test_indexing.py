from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sites import labels, run, site

from prunec.compiler.labels import Coupler, Reindex, Resize
from prunec.compiler.rules import RULES

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


def test_split_by_sizes_of_the_data_freezes_its_axis() -> None:
    ran = run("Split", [IMAGE, (2,)], [(2, 3, 4), (2, 3, 4)], axis=1)
    assert ran.frozen(ran.ins[0][1])
    assert ran.outs[1][2] is ran.ins[0][2]


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
    constants = {1: [0, 1], 2: [6, 4], 3: [1, 2], 4: [2, 1]}
    ran = run("Slice", [IMAGE, *[(2,)] * 4], [(2, 3, 3)], constants=constants)
    assert ran.frozen(ran.ins[0][1])


def test_axes_that_a_strided_slice_leaves_whole_do_not_count() -> None:
    constants = {1: [0, 0], 2: [6, 4], 3: [1, 2], 4: [2, 1]}
    ran = run("Slice", [IMAGE, *[(2,)] * 4], [(2, 3, 4)], constants=constants)
    assert ran.apart(ran.ins[0][1])
    assert ran.c.patches[0].key is None


def test_slice_attributes_of_opset_9_are_read() -> None:
    ran = run("Slice", [IMAGE], [(2, 3, 4)], axes=[1], starts=[1], ends=[4], opset=9)
    assert [p.key for p in ran.c.patches] == ["starts", "ends"]


def test_slice_by_data_freezes_the_axes_it_names() -> None:
    ran = run("Slice", [IMAGE, (1,), (1,), (1,)], [(2, 3, 4)], constants={3: [-2]})
    assert ran.frozen(ran.ins[0][1])
    assert ran.outs[0][2] is ran.ins[0][2]


def test_slice_by_data_without_axes_cuts_the_first() -> None:
    ran = run("Slice", [IMAGE, (1,), (1,)], [(1, 6, 4)])
    assert ran.frozen(ran.ins[0][0])
    assert ran.outs[0][1] is ran.ins[0][1]


def test_slice_along_axes_of_the_data_freezes_all() -> None:
    ran = run("Slice", [IMAGE, (1,), (1,), (1,)], [IMAGE])
    assert all(ran.frozen(a) for a in ran.ins[0])


def test_bounds_from_a_size_of_the_data_are_no_positions() -> None:
    c = Coupler()
    constants = {1: [0], 2: [3], 3: [1]}
    where = site("Slice", [IMAGE, (1,), (1,), (1,)], [(2, 3, 4)], constants=constants)
    where = replace(where, assumed=(False, False, True, False))
    ins = [labels(c, *shape) for shape in where.in_shapes]
    RULES["Slice"](where, ins, c)
    assert not c.find(ins[0][1]).any()


def test_indices_from_a_size_of_the_data_are_no_positions() -> None:
    c = Coupler()
    where = site("Gather", [IMAGE, (3,)], [(2, 3, 4)], constants={1: [0, 1, 2]}, axis=1)
    where = replace(where, assumed=(False, True))
    ins = [labels(c, *shape) for shape in where.in_shapes]
    RULES["Gather"](where, ins, c)
    assert not c.find(ins[0][1]).any()


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


def test_data_picks_rows_of_a_weight_whose_columns_may_leave() -> None:
    ran = run("Gather", [(9, 6), (3,)], [(3, 6)], weights=[0])
    assert any(freed is ran.ins[0][1] for freed in ran.c.freed)
    assert not run("Gather", [(9, 6), (3,)], [(3, 6)], weights=[0, 1]).c.freed
    assert not run("Gather", [(9, 6), (3,)], [(3, 6)]).c.freed


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


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_pads_that_repeat_channels_freeze_them(mode: str) -> None:
    pads = [0, 0, 0, 0, 1, 0]
    ran = run("Pad", [IMAGE, (6,)], [(2, 7, 4)], constants={1: pads}, mode=mode)
    assert ran.frozen(ran.ins[0][1])


def test_a_pad_that_crops_channels_becomes_a_gather() -> None:
    ran = run("Pad", [IMAGE, (6,)], [(2, 3, 4)], constants={1: [0, -1, 0, 0, -2, 0]})
    assert ran.outs[0][1].tolist() == ran.ins[0][1][1:4].tolist()
    (patch,) = ran.c.patches
    assert (patch.key, patch.axis, patch.indices.tolist()) == (None, 1, [1, 2, 3])


def test_a_pad_that_crops_and_adds_freezes_what_it_crops() -> None:
    ran = run("Pad", [IMAGE, (6,)], [(2, 5, 5)], constants={1: [0, -1, 1, 0, 0, 0]})
    assert ran.frozen(ran.ins[0][1])


def test_pad_by_data_freezes_its_axes() -> None:
    ran = run("Pad", [IMAGE, (2,), None, (1,)], [IMAGE], constants={3: [1]}, opset=18)
    assert ran.frozen(ran.ins[0][1])
    assert ran.outs[0][2] is ran.ins[0][2]
