"""Ranges of a model's values on data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest
from two_layers import Two

from prunec.compiler.errors import DataError, ModelError
from prunec.passes.quantize.quantisers import Clustered, Line
from prunec.passes.quantize.ranges import RANGES, MinMax
from prunec.runtime.quantize import calibrate as module
from prunec.runtime.quantize.calibrate import calibrate
from prunec.runtime.session import make_session

pytest.importorskip("onnxruntime")
WANTED = {"x": None, "a": 1, "b.y": None, "a.y": None}


@pytest.fixture(scope="module")
def two() -> Two:
    return Two()


def batches(number: int = 3, size: int = 4) -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    for _ in range(number):
        yield {"x": rng.normal(size=(size, 3, 6, 6)).astype(np.float32)}


def activations(model: ir.Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    clone = model.clone()
    clone.graph.outputs.extend(v for n in list(clone.graph)[:-1] for v in n.outputs)
    session = make_session(clone)
    return dict(zip(session.outputs, session.run(feeds), strict=True)) | feeds


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("limit", [1, 2**29])
def test_ranges_are_those_of_all_values_at_once(two: Two, name: str, limit: int) -> None:
    found = calibrate(two.model, WANTED, batches(), RANGES[name](), limit_bytes=limit)
    assert found.samples == 12
    every = [activations(two.model, feeds) for feeds in batches()]
    for value, axis in WANTED.items():
        reducer = RANGES[name]().start(1 if axis is None else 4)
        for seen in every:
            array = seen[value]
            turned = array if axis is None else np.moveaxis(array, axis, 0)
            reducer.add(turned.reshape(1 if axis is None else len(turned), -1))
        wanted = reducer.ranges(lambda low, high, axis=axis: Line()(low, high, 8, axis))
        np.testing.assert_allclose(found.ranges(value, Line(), 8), wanted, rtol=1e-3, atol=1e-5)
        grid = found.grid(value, Line(), 8)
        assert (grid.axis, grid.bits) == (axis, 8)


def test_a_small_limit_runs_one_value_at_a_time(two: Two, monkeypatch) -> None:
    made = []
    monkeypatch.setattr(module, "make_session", lambda m, **how: made.append(m) or make_session(m))
    calibrate(two.model, WANTED, batches(), MinMax(), limit_bytes=1)
    assert [len(m.graph.outputs) for m in made] == [1, 1, 1]
    assert min(len(m.graph) for m in made) == 1  # what comes behind is not computed
    made.clear()
    calibrate(two.model, WANTED, batches(), MinMax())
    assert [len(m.graph.outputs) for m in made] == [3]


def test_clusters_are_made_of_ranges_that_were_searched_per_channel(two: Two) -> None:
    found = calibrate(two.model, {"a": 1}, batches(), RANGES["mse"]())
    low, high = found.ranges("a", Clustered(2, of="line"), 4)
    alone = found.ranges("a", Line(), 4)
    np.testing.assert_array_equal(np.stack([low, high]), np.stack(alone))
    assert len(np.unique(found.grid("a", Clustered(2, of="line"), 4).scale)) == 2


def test_data_that_overflows_or_is_missing_is_refused(two: Two) -> None:
    with pytest.raises(DataError, match="holds no sample"):
        calibrate(two.model, WANTED, iter(()), MinMax())
    big = [*batches(1), {"x": np.full((4, 3, 6, 6), 3e38, np.float32)}]
    with pytest.raises(DataError, match=r"not finite .* from sample 4 on"):
        calibrate(two.model, {"a.y": None, "b.y": None}, big, MinMax())
    with pytest.raises(ModelError, match="'c' is no activation"):
        calibrate(two.model, {"c": None}, batches(), MinMax())
