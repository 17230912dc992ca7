from __future__ import annotations

import numpy as np
import pytest
from sites import run

from prunec.compiler.site import Unsupported


def reshape(shape: tuple[int, ...], target: tuple[int, ...], out: tuple[int, ...] | None = None):
    return run("Reshape", [shape, (len(target),)], [out or target], constants={1: target})


def test_transpose_moves_labels() -> None:
    ran = run("Transpose", [(2, 3, 4)], [(4, 2, 3)], perm=[2, 0, 1])
    assert ran.outs[0][0] is ran.ins[0][2]


def test_transpose_without_perm_reverses() -> None:
    ran = run("Transpose", [(2, 3, 4)], [(4, 3, 2)])
    assert ran.outs[0][1] is ran.ins[0][1]


def test_reshape_that_keeps_an_axis_passes_its_labels() -> None:
    ran = reshape((2, 6, 4, 1), (2, 6, 4))
    assert ran.outs[0][1] is ran.ins[0][1]


def test_a_literal_target_follows_kept_counts() -> None:
    (patch,) = reshape((1, 6, 1), (1, 6)).c.patches
    assert [k for k, _ in patch.elements] == [1]


def test_zero_and_minus_one_adapt_by_themselves() -> None:
    assert reshape((2, 6, 1), (0, -1), (2, 6)).c.patches == []


def test_a_merge_with_an_axis_that_stays_repeats_labels() -> None:
    ran = run("Flatten", [(1, 3, 1, 1)], [(1, 3)])
    assert ran.outs[0][1] is ran.ins[0][1]


def test_a_merge_of_two_axes_leaves_whole_rows() -> None:
    ran = reshape((3, 2), (6,))
    cells = ran.outs[0][0].reshape(3, 2)
    assert ran.tied(cells, ran.ins[0][0][:, None])
    assert ran.frozen(ran.ins[0][1])


def test_a_split_picks_the_factor_with_more_groups() -> None:
    ran = reshape((6,), (2, 3))
    assert ran.tied(ran.ins[0][0].reshape(2, 3), ran.outs[0][1][None, :])
    assert ran.frozen(ran.outs[0][0])


def test_a_reshape_that_cuts_across_axes_freezes_them() -> None:
    ran = reshape((4, 6), (6, 4))
    assert ran.frozen(ran.ins[0][0])
    assert ran.frozen(ran.ins[0][1])
    assert ran.frozen(ran.outs[0][0])


def test_a_reshape_of_nothing_has_no_channels() -> None:
    ran = reshape((0, 4), (4, 0))
    assert ran.frozen(ran.outs[0][0])


def test_a_reshape_by_data_has_no_patch() -> None:
    ran = run("Reshape", [(2, 6), (2,)], [(6, 2)])
    assert ran.c.patches == []


def test_flatten_takes_an_axis() -> None:
    ran = run("Flatten", [(3, 1, 4)], [(3, 4)], axis=2)
    assert ran.outs[0][0] is ran.ins[0][0]


def test_the_blocks_of_a_channel_shuffle_stay_together() -> None:
    first = run("Reshape", [(1, 6), (3,)], [(1, 2, 3)], constants={1: [1, 2, 3]})
    assert first.tied(first.ins[0][1][:3], first.ins[0][1][3:])


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_removes_all_sub_pixels(mode: str) -> None:
    ran = run("DepthToSpace", [(1, 8, 2, 2)], [(1, 2, 4, 4)], blocksize=2, mode=mode)
    x, out = ran.ins[0][1], ran.outs[0][1]
    rows = x.reshape(2, 4) if mode == "CRD" else x.reshape(4, 2).T
    assert ran.tied(rows, out[:, None])
    assert ran.apart(out)


def test_space_to_depth_repeats_labels_for_every_sub_pixel() -> None:
    ran = run("SpaceToDepth", [(1, 2, 4, 4)], [(1, 8, 2, 2)], blocksize=2)
    assert ran.tied(ran.outs[0][1].reshape(4, 2), ran.ins[0][1][None, :])
    assert ran.frozen(ran.ins[0][2])


@pytest.mark.parametrize(
    "options", [{"axes": [1, -1], "opset": 11}, {"constants": {1: [1, 3]}}, {}]
)
def test_squeeze_drops_unit_axes(options: dict) -> None:
    shapes = [(2, 1, 3, 1), (2,)] if "constants" in options else [(2, 1, 3, 1)]
    ran = run("Squeeze", shapes, [(2, 3)], **options)
    assert ran.outs[0][1] is ran.ins[0][2]


def test_squeeze_by_data_is_not_supported() -> None:
    with pytest.raises(Unsupported, match="axes depends on the data"):
        run("Squeeze", [(2, 1), (1,)], [(2,)])


@pytest.mark.parametrize("options", [{"axes": [0, 2], "opset": 11}, {"constants": {1: [0, -2]}}])
def test_unsqueeze_adds_unit_axes(options: dict) -> None:
    shapes = [(2, 3), (2,)] if "constants" in options else [(2, 3)]
    ran = run("Unsqueeze", shapes, [(1, 2, 1, 3)], **options)
    assert ran.outs[0][3] is ran.ins[0][1]


def test_expand_stretches_unit_axes_into_new_labels() -> None:
    ran = run("Expand", [(4, 1), (3,)], [(2, 4, 3)], constants={1: [2, 4, 3]})
    assert ran.outs[0][1] is ran.ins[0][0]
    assert ran.apart([*ran.outs[0][0], *ran.outs[0][1], *ran.outs[0][2]])
    (patch,) = ran.c.patches
    assert [k for k, _ in patch.elements] == [0, 1, 2]


def test_expand_by_a_shorter_target_aligns_from_the_right() -> None:
    ran = run("Expand", [(2, 4, 1), (1,)], [(2, 4, 3)], constants={1: [3]})
    (patch,) = ran.c.patches
    assert patch.elements[0][1] is ran.outs[0][2]


def test_expand_to_ones_keeps_its_own_axes() -> None:
    assert run("Expand", [(2, 4), (2,)], [(2, 4)], constants={1: [1, 1]}).c.patches == []


def test_expand_by_data_freezes_everything() -> None:
    ran = run("Expand", [(4, 1), (2,)], [(4, 3)])
    assert ran.frozen(ran.ins[0][0])
    assert ran.frozen(ran.outs[0][1])


def test_tile_repeats_labels() -> None:
    ran = run("Tile", [(2, 3), (2,)], [(2, 6)], constants={1: [1, 2]})
    assert ran.tied(ran.outs[0][1].reshape(2, 3), ran.ins[0][1])
    assert ran.c.patches == []


def test_tile_of_a_unit_axis_makes_new_labels() -> None:
    ran = run("Tile", [(2, 1), (2,)], [(2, 6)], constants={1: [1, 6]})
    assert ran.apart(ran.outs[0][1])
    (patch,) = ran.c.patches
    assert patch.elements[0][0] == 1


def test_tile_by_data_is_not_supported() -> None:
    with pytest.raises(Unsupported, match="repeats depends on the data"):
        run("Tile", [(2, 3), (2,)], [(2, 6)])


def test_cells_are_in_c_order() -> None:
    ran = reshape((4, 3, 2), (12, 2))
    cells = ran.c.find(ran.outs[0][0]).reshape(4, 3)
    assert np.array_equal(cells, np.broadcast_to(cells[:, :1], (4, 3)))
