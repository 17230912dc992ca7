from __future__ import annotations

import pytest
from sites import run

IMAGE = (2, 4, 3, 3)


def test_batch_normalization_ties_all_four_vectors() -> None:
    ran = run("BatchNormalization", [IMAGE, (4,), (4,), (4,), (4,)], [IMAGE])
    assert all(ran.tied(p[0], ran.ins[0][1]) for p in ran.ins[1:])


def test_running_statistics_are_not_parameters() -> None:
    ran = run("BatchNormalization", [IMAGE, (4,), (4,), (4,), (4,)], [IMAGE])
    assert ran.c.auxiliary == {("node", 3), ("node", 4)}


def test_batch_normalization_in_training_mode_keeps_the_batch() -> None:
    ran = run(
        "BatchNormalization",
        [IMAGE, (4,), (4,), (4,), (4,)],
        [IMAGE, (4,), (4,)],
        training_mode=1,
    )
    assert ran.frozen(ran.ins[0][0])
    assert ran.tied(ran.outs[1][0], ran.ins[0][1])


def test_batch_normalization_of_a_vector_has_one_channel() -> None:
    ran = run("BatchNormalization", [(5,), (1,), (1,), (1,), (1,)], [(5,)])
    assert ran.c.ties == []


def test_instance_normalization_keeps_space() -> None:
    ran = run("InstanceNormalization", [IMAGE, (4,), (4,)], [IMAGE])
    assert ran.frozen(ran.ins[0][2])
    assert ran.tied(ran.ins[1][0], ran.ins[0][1])


@pytest.mark.parametrize("size", [2, 4])
def test_group_normalization_removes_whole_groups(size: int) -> None:
    ran = run("GroupNormalization", [IMAGE, (size,), (size,)], [IMAGE], num_groups=2)
    x, scale, bias = ran.ins
    assert ran.tied(x[1][0::2], x[1][1::2])
    assert ran.apart(x[1][::2])
    assert ran.tied(scale[0], x[1] if size == 4 else x[1][::2])
    assert ran.tied(scale[0], bias[0])


def test_group_normalization_shrinks_num_groups() -> None:
    (patch,) = run("GroupNormalization", [IMAGE, (4,), (4,)], [IMAGE], num_groups=2).c.patches
    assert (patch.key, patch.value) == ("num_groups", (2,))


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
def test_statistics_over_the_last_axes_freeze_them(op: str) -> None:
    ran = run(op, [IMAGE, (3, 3)], [IMAGE], axis=-2)
    assert ran.frozen(ran.ins[0][2])
    assert ran.frozen(ran.ins[1][0])
    assert ran.apart(ran.ins[0][1])


def test_layer_normalization_gives_the_shape_of_its_statistics() -> None:
    outs = [IMAGE, (2, 4, 3, 1), (2, 4, 3, 1)]
    ran = run("LayerNormalization", [IMAGE, (3,)], outs)
    assert ran.outs[1][1] is ran.ins[0][1]


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax", "LpNormalization"])
def test_ops_along_an_axis_freeze_it(op: str) -> None:
    ran = run(op, [IMAGE], [IMAGE], axis=1)
    assert ran.frozen(ran.ins[0][1])
    assert ran.apart(ran.ins[0][2])


def test_softmax_before_opset_13_mixes_everything_from_its_axis_on() -> None:
    ran = run("Softmax", [IMAGE], [IMAGE], opset=11)
    assert ran.frozen(ran.ins[0][1])
    assert ran.frozen(ran.ins[0][3])
    assert ran.apart(ran.ins[0][0])


def test_local_response_normalization_freezes_channels() -> None:
    ran = run("LRN", [IMAGE], [IMAGE], size=3)
    assert ran.frozen(ran.ins[0][1])


def test_mean_variance_normalization_freezes_its_axes() -> None:
    ran = run("MeanVarianceNormalization", [IMAGE], [IMAGE])
    assert ran.apart(ran.ins[0][1])
    assert all(ran.frozen(ran.ins[0][k]) for k in (0, 2, 3))
