from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from doubled import Net

from prunec.compiler.errors import ModelError
from prunec.frontends.onnx import load
from prunec.passes.insert import values_by_name
from prunec.passes.recovery.storage import store
from prunec.runtime.recovery import walk as walking
from prunec.runtime.recovery.walk import Walk
from prunec.runtime.session import make_session

pytest.importorskip("onnxruntime")
BATCHES = 3


def net() -> ir.Model:
    made = Net((2, 4, 4))
    x = "x"
    for k in range(5):
        made.store(f"w{k}", made.draw(2, 2, 1, 1))
        y = made.add("Conv", [x, f"w{k}"], f"c{k}")
        x = made.add("Add", [y, x], f"s{k}")
    return load(made.model(x, ("n", 2, 4, 4)))


def feeds() -> Iterator[dict[str, np.ndarray]]:
    for k in range(BATCHES):
        rng = np.random.default_rng(k)
        yield {"x": rng.standard_normal((2, 2, 4, 4)).astype(np.float32)}


def direct(model: ir.Model, name: str) -> list[np.ndarray]:
    whole = model.clone()
    whole.graph.outputs[:] = [values_by_name(whole.graph)[name]]
    session = make_session(whole)
    return [session.run(batch)[0] for batch in feeds()]


def taken(walk: Walk, names: list[str], changing: Any = ()) -> list[dict[str, np.ndarray]]:
    return [dict(found) for found in walk.run(names, changing)]


@pytest.mark.parametrize("limit", [0, 300, 600, 10**6])
def test_values_are_those_of_the_whole_model(limit: int) -> None:
    model = net()
    walk = Walk(model, feeds, limit)
    walk.later = {"s3", "c1"}
    for names in (["c0"], ["s1", "x"], ["s3", "c1"], ["s0"], ["s4"]):
        found = taken(walk, names)
        assert len(found) == BATCHES
        for name in names:
            if name == "x":
                continue
            for a, b in zip(direct(model, name), found, strict=True):
                np.testing.assert_allclose(a, b[name], rtol=1e-5, atol=1e-6)


def test_a_changed_weight_is_seen_behind_it() -> None:
    model = net()
    walk = Walk(model, feeds, 10**6)
    taken(walk, ["s2"])
    store(values_by_name(model.graph)["w1"], np.ones((2, 2, 1, 1), np.float32))
    walk.forget(["w1"])
    for a, b in zip(direct(model, "s3"), taken(walk, ["s3"]), strict=True):
        np.testing.assert_allclose(a, b["s3"], rtol=1e-5, atol=1e-6)


def test_what_was_computed_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(model: ir.Model, **options: Any) -> Any:
        sizes.append(len(model.graph))
        return make_session(model, **options)

    monkeypatch.setattr(walking, "make_session", counted)
    walk = Walk(net(), feeds, 10**6)
    for k in range(5):
        taken(walk, [f"s{k}"])
    assert sizes == [2] * 5


def test_a_part_that_the_optimiser_breaks_runs_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime moves quantisers across the end of a part, to the wrong element type."""

    def fragile(model: ir.Model, *, optimise: bool = True, **options: Any) -> Any:
        if optimise:
            raise ModelError("output_dtype INT8 does not match y_zero_point type UINT8")
        return make_session(model, optimise=False, **options)

    monkeypatch.setattr(walking, "make_session", fragile)
    model = net()
    for a, b in zip(direct(model, "s2"), taken(Walk(model, feeds, 10**6), ["s2"]), strict=True):
        np.testing.assert_allclose(a, b["s2"], rtol=1e-5, atol=1e-6)


def test_inputs_of_a_changing_weight_stay_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(model: ir.Model, **options: Any) -> Any:
        sizes.append(len(model.graph))
        return make_session(model, **options)

    monkeypatch.setattr(walking, "make_session", counted)
    walk = Walk(net(), feeds, 10**6)
    taken(walk, ["s2"])
    taken(walk, ["c3"], ["w3"])
    walk.forget(["w3"])
    taken(walk, ["s3"])
    assert sizes == [6, 1, 2]
