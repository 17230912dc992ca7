from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from prunec.compiler.errors import DataError, ModelError
from prunec.frontends.onnx import to_proto
from prunec.frontends.shapes import infer_facts
from prunec.runtime.calibrate import collect, lowest_is_zero

pytest.importorskip("onnxruntime")

AXES = (("fires", 1), ("image", 1), ("flat", 1), ("hidden", 3))


def activations(model: ir.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Every activation, by the plain way: all of them as outputs."""
    from prunec.runtime.session import make_session

    clone = model.clone()
    clone.graph.outputs.extend(value for node in list(clone.graph)[:-1] for value in node.outputs)
    session = make_session(clone)
    return dict(zip(session.outputs, session.run({"image": images}), strict=True)) | {
        "image": images
    }


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
def test_statistics_equal_those_of_stored_activations(
    build: Callable[..., ir.Model], images: np.ndarray, opset: int
) -> None:
    model = build(opset=opset)
    stats = collect(model, AXES, [{"image": images[:4]}, {"image": images[4:]}])
    assert stats.samples == 10
    stored = activations(model, images)
    for name, axis in AXES:
        array = stored[name].astype(np.float64)
        others = tuple(a for a in range(array.ndim) if a != axis)
        # Batches of other sizes may take other kernels of onnxruntime, in float32.
        np.testing.assert_allclose(stats.mean_abs[name, axis], abs(array).mean(others), rtol=1e-5)
        np.testing.assert_allclose(stats.nonzero[name, axis], (array != 0).mean(others), rtol=1e-9)
        assert stats.mean_abs[name, axis].dtype == np.float64


def test_running_averages_count_batches_alike(model: ir.Model, images: np.ndarray) -> None:
    stats = collect(model, AXES, [{"image": images[:8]}, {"image": images[8:]}])
    first, second = (activations(model, part) for part in (images[:8], images[8:]))
    for name, axis in AXES:
        others = tuple(a for a in range(first[name].ndim) if a != axis)
        each = [abs(part[name].astype(np.float64)).mean(others) for part in (first, second)]
        np.testing.assert_allclose(stats.running[name, axis], np.mean(each, 0), rtol=1e-5)
    assert abs(stats.running["fires", 1] / stats.mean_abs["fires", 1] - 1).max() > 1e-3


def test_frequencies_are_for_what_a_relu_made(model: ir.Model, images: np.ndarray) -> None:
    stats = collect(model, AXES, [{"image": images[:5]}, {"image": images[5:]}])
    np.testing.assert_allclose(stats.frequency["fires", 1], stats.nonzero["fires", 1])
    np.testing.assert_allclose(stats.frequency["hidden", 3], stats.mean_abs["hidden", 3])
    np.testing.assert_allclose(stats.frequency["image", 1], stats.mean_abs["image", 1])


def test_the_smallest_element_is_zero_if_some_are_and_none_is_below() -> None:
    half, none = np.array([0.5, 1.0]), np.array(0.0)
    assert lowest_is_zero(half, none)
    assert not lowest_is_zero(np.ones(2), none)
    assert not lowest_is_zero(half, np.array(1e-9))
    assert not lowest_is_zero(np.ones(0), none)


def test_a_dead_channel_has_zero_frequency(model: ir.Model, images: np.ndarray) -> None:
    stats = collect(model, [("fires", 1)], [{"image": images}])
    assert stats.nonzero["fires", 1][1] < 0.05
    assert (stats.nonzero["fires", 1][[0, 2, 3]] > 0.3).all()


def test_the_model_is_not_changed(model: ir.Model, images: np.ndarray) -> None:
    before = to_proto(model).SerializeToString(deterministic=True)
    collect(model, AXES, [{"image": images}])
    assert to_proto(model).SerializeToString(deterministic=True) == before


def test_given_facts_need_not_have_the_batch_of_the_data(
    model: ir.Model, images: np.ndarray
) -> None:
    feeds = [{"image": images}]
    given = collect(model, AXES, feeds, facts=infer_facts(model))
    np.testing.assert_array_equal(
        given.mean_abs["fires", 1], collect(model, AXES, feeds).mean_abs["fires", 1]
    )


def test_no_axes_still_counts_samples(model: ir.Model, images: np.ndarray) -> None:
    assert collect(model, [], [{"image": images}]).samples == 10


def test_no_sample_is_refused(model: ir.Model) -> None:
    with pytest.raises(DataError, match="no sample"):
        collect(model, AXES, [])


def test_an_unknown_value_is_refused(model: ir.Model, images: np.ndarray) -> None:
    with pytest.raises(ModelError, match="'nothing' is no activation"):
        collect(model, [("nothing", 1)], [{"image": images}])


def test_an_overflow_is_refused(model: ir.Model, images: np.ndarray) -> None:
    with pytest.raises(DataError, match="hidden is not finite on samples 0 to 9"):
        collect(model, [("hidden", 1)], [{"image": np.full_like(images, 3e38)}])
