from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from prunec.compiler.partition import Partition
from prunec.passes.recovery.blocks import blocked
from prunec.passes.recovery.forms import form_of
from prunec.passes.recovery.sites import Site, Use
from prunec.passes.recovery.storage import Stored
from prunec.passes.recovery.tails import Tail

RNG = np.random.default_rng(0)
CROSSED = Partition.of([1, 0, 1, 0, 0, 1], [1, 1, 0, 0])
SHAPE = (6, 4, 3, 2)


def site(shape: tuple[int, ...] = SHAPE, group: int = 1) -> Site:
    values = [ir.Value(name=name) for name in "xw"]
    attributes = {"pads": [1, 0, 1, 1], "group": group}
    node = ir.node("Conv", values, attributes, name="node")
    form = form_of(node, 1, shape)
    assert form is not None
    channels = np.arange(1.0, shape[0] + 1)
    use = Use(node, 1, form, "x", "y", channels, Tail("y", 10 * channels, -channels), None)
    return Site(Stored("w", shape), (use,), 0)


def test_every_block_is_a_product_of_its_own_inputs() -> None:
    whole, parts = site(), blocked(site(), CROSSED)
    x, w = RNG.standard_normal((2, 4, 5, 5)), RNG.standard_normal(SHAPE)
    masked = w * CROSSED.mask()[:, :, None, None]
    dense, form = whole.uses[0].form, parts.uses[0].form
    places = np.arange(20)
    shape = (2, 6, 5, 5)
    flat = dense.rows(x, shape, places) @ dense.matrix(masked)
    y = np.moveaxis(flat.reshape(2, 20, 6), 2, 1).reshape(2, 6, 20)
    y = np.pad(y, ((0, 0), (0, 0), (0, 5))).reshape(shape)
    rows, matrix = form.rows(x, shape, places), form.matrix(w)
    assert (rows.shape, matrix.shape) == ((2, 40, 12), (2, 12, 3))
    np.testing.assert_allclose(rows @ matrix, form.outputs(y, places))


def test_what_is_stored_is_zero_off_the_blocks() -> None:
    form = blocked(site(), CROSSED).uses[0].form
    w = RNG.standard_normal(SHAPE)
    got = form.stored(form.matrix(w), SHAPE)
    np.testing.assert_array_equal(got, w * CROSSED.mask()[:, :, None, None])


def test_vectors_of_outputs_stand_in_the_order_of_the_blocks() -> None:
    got = blocked(site(), CROSSED)
    (use,) = got.uses
    assert got.order is not None
    assert got.order.tolist() == [1, 3, 4, 0, 2, 5]
    np.testing.assert_array_equal(use.bias, got.order + 1)
    np.testing.assert_array_equal(use.tail.scale, 10 * (got.order + 1))
    np.testing.assert_array_equal(use.tail.shift, -(got.order + 1))


def test_columns_know_their_channels() -> None:
    form = blocked(site(), CROSSED).uses[0].form
    assert [set(row) for row in form.sources(4, 12).tolist()] == [{2, 3}, {0, 1}]


@pytest.mark.parametrize("fault", ["groups", "outputs"])
def test_other_weights_have_no_such_blocks(fault: str) -> None:
    given = site((6, 2, 3, 2), group=2) if fault == "groups" else site()
    partition = CROSSED if fault == "groups" else replace(CROSSED, outputs=(0, 1))
    with pytest.raises(ValueError, match="w: no partition"):
        blocked(given, partition)
