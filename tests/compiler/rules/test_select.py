from __future__ import annotations

import pytest
from sites import run

IMAGE = (2, 6, 4)


def test_gather_nd_freezes_what_it_indexes_and_passes_the_rest() -> None:
    ran = run("GatherND", [(3, 4, 5, 6), (7, 2)], [(7, 5, 6)])
    assert all(ran.frozen(a) for a in ran.ins[0][:2])
    assert ran.outs[0] == (ran.ins[1][0], *ran.ins[0][2:])


def test_data_picks_matrices_of_a_weight_whose_rows_may_leave() -> None:
    ran = run("GatherND", [(4, 8, 6), (3, 1)], [(3, 8, 6)], weights=[0])
    assert [id(freed) for freed in ran.c.freed] == [id(a) for a in ran.ins[0][1:]]


def test_gather_nd_ties_batch_axes() -> None:
    ran = run("GatherND", [(3, 4, 5), (3, 7, 1)], [(3, 7, 5)], batch_dims=1)
    assert ran.tied(ran.ins[0][0], ran.ins[1][0])
    assert ran.frozen(ran.ins[0][1])
    assert ran.outs[0][2] is ran.ins[0][2]


def test_gather_elements_ties_the_axes_beside_its_own() -> None:
    ran = run("GatherElements", [IMAGE, (2, 6, 3)], [(2, 6, 3)], axis=2)
    assert ran.frozen(ran.ins[0][2])
    assert ran.tied(ran.ins[0][1], ran.outs[0][1])


def test_gather_elements_freezes_axes_of_which_it_reads_a_part() -> None:
    ran = run("GatherElements", [IMAGE, (2, 5, 3)], [(2, 5, 3)], axis=2)
    assert ran.frozen(ran.ins[0][1])
    assert ran.frozen(ran.ins[1][1])


@pytest.mark.parametrize("op", ["Scatter", "ScatterElements"])
def test_scatters_tie_data_and_updates_beside_the_axis(op: str) -> None:
    ran = run(op, [IMAGE, (2, 6, 3), (2, 6, 3)], [IMAGE], axis=-1)
    data, indices, updates = ran.ins
    assert ran.tied(data[1], updates[1])
    assert ran.tied(data[1], indices[1])
    assert ran.frozen(data[2])
    assert ran.frozen(updates[2])
    assert ran.outs[0] is data


def test_scatter_nd_ties_what_is_behind_the_indices() -> None:
    ran = run("ScatterND", [(3, 4, 6), (7, 2), (7, 6)], [(3, 4, 6)])
    data, indices, updates = ran.ins
    assert ran.tied(data[2], updates[1])
    assert all(ran.frozen(a) for a in (*data[:2], *indices, updates[0]))


def test_tensor_scatter_passes_the_axes_beside_the_sequence() -> None:
    ran = run("TensorScatter", [(2, 3, 8, 6), (2, 3, 1, 6), (2,)], [(2, 3, 8, 6)])
    assert ran.tied(ran.ins[0][3], ran.ins[1][3])
    assert ran.tied(ran.ins[0][1], ran.ins[1][1])
    assert ran.frozen(ran.ins[0][2])
    assert ran.frozen(ran.ins[2][0])


def test_compress_freezes_its_axis() -> None:
    ran = run("Compress", [IMAGE, (6,)], [(2, 3, 4)], axis=1)
    assert ran.frozen(ran.ins[0][1])
    assert ran.outs[0][2] is ran.ins[0][2]


def test_compress_without_an_axis_freezes_all() -> None:
    ran = run("Compress", [IMAGE, (6,)], [(3,)])
    assert all(ran.frozen(a) for a in ran.ins[0])


@pytest.mark.parametrize(("axis", "out"), [(-1, (6, 4, 9)), (1, (6, 9, 4))])
def test_one_hot_adds_an_axis_that_stays(axis: int, out: tuple[int, ...]) -> None:
    ran = run("OneHot", [(6, 4), (), (2,)], [out], axis=axis)
    assert ran.outs[0][0] is ran.ins[0][0]
    assert ran.frozen(ran.outs[0][axis])


def test_a_triangle_freezes_the_last_two_axes() -> None:
    ran = run("Trilu", [IMAGE], [IMAGE])
    assert ran.frozen(ran.ins[0][1])
    assert ran.frozen(ran.ins[0][2])
    assert ran.apart(ran.ins[0][0])


def test_reversed_sequences_freeze_time_and_batch() -> None:
    ran = run("ReverseSequence", [(5, 2, 6), (2,)], [(5, 2, 6)])
    assert ran.frozen(ran.ins[0][0])
    assert ran.frozen(ran.ins[0][1])
    assert ran.outs[0][2] is ran.ins[0][2]


def test_center_crop_pad_freezes_what_it_changes_and_follows_the_rest() -> None:
    shapes = [IMAGE, (2,)]
    ran = run("CenterCropPad", shapes, [(2, 6, 7)], constants={1: [6, 7]}, axes=[1, 2])
    assert ran.frozen(ran.ins[0][2])
    (patch,) = ran.c.patches
    assert [k for k, _ in patch.elements] == [0]


def test_center_crop_pad_by_data_freezes_its_axes() -> None:
    ran = run("CenterCropPad", [IMAGE, (1,)], [IMAGE], axes=[1])
    assert ran.frozen(ran.ins[0][1])
    assert ran.outs[0][2] is ran.ins[0][2]
