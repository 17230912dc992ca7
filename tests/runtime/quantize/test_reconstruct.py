"""Integers of weights, layer by layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from two_layers import Two, images

from prunec.compiler.errors import DataError
from prunec.passes.insert import values_by_name
from prunec.passes.quantize.rounding import Gptq, Nearest
from prunec.passes.recovery.storage import store
from prunec.runtime.data import DataSpec
from prunec.runtime.quantize import reconstruct as reconstruction
from prunec.runtime.quantize.reconstruct import Fitting, Reconstructed, reconstruct
from prunec.runtime.session import make_session

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def two() -> Two:
    return Two(8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    path = tmp_path_factory.mktemp("data") / "x.npz"
    np.savez(path, x=images(100, seed=1))
    return DataSpec(str(path))


def found(two: Two, data: DataSpec | None, bits: int, how: Fitting, acts: int = 8) -> Reconstructed:
    activations = two.activations(acts) if acts else {}
    return reconstruct(two.model, two.facts, activations, two.grids(bits), how, data)


def test_without_data_integers_are_the_nearest(two: Two) -> None:
    made = found(two, None, 8, Fitting(Nearest()))
    for name, grid in two.grids(8).items():
        assert np.abs(made.codes[name] - grid.codes(two.weight(name))).max() <= 1
    assert not made.biases
    assert not made.errors


@pytest.mark.parametrize("activation_bits", [0, 4, 8])
def test_rounding_by_data_lowers_the_error_of_fresh_outputs(
    two: Two, data: DataSpec, activation_bits: int
) -> None:
    errors = {}
    for label, how in {
        "nearest": Fitting(Nearest(), correction=False),
        "corrected": Fitting(Nearest()),
        "gptq": Fitting(Gptq(), correction=False),
        "both": Fitting(Gptq()),
    }.items():
        made = found(two, data, 3, how, activation_bits)
        acts = two.activations(activation_bits) if activation_bits else {}
        errors[label] = two.off(two.grids(3), acts, made)
    assert errors["gptq"] < errors["nearest"] / 2
    assert errors["both"] < errors["nearest"] / 2
    assert errors["corrected"] < errors["nearest"]


def test_the_report_has_an_error_for_each_layer(two: Two, data: DataSpec) -> None:
    made = found(two, data, 3, Fitting(Gptq()))
    assert [e.layer for e in made.errors] == ["a.y", "b.y", "y"]
    assert all(0 < e.chosen < e.nearest < 1 for e in made.errors)
    assert set(made.biases) == {"a.b", "c.b"}  # b.y has no bias to take anything up


def test_corrected_biases_keep_the_means(two: Two, data: DataSpec) -> None:
    made = found(two, data, 3, Fitting(Nearest()), 0)
    own = two.model.clone()
    held = values_by_name(own.graph)
    for name, codes in made.codes.items():
        store(held[name], two.grids(3)[name].values(codes))
    for name, bias in made.biases.items():
        store(held[name], bias)
    x = np.load(data.path)["x"]
    (y,), (z,) = (make_session(m).run({"x": x}) for m in (two.model, own))
    np.testing.assert_allclose(y.mean(0), z.mean(0), atol=1e-3 * np.abs(y).max())


def test_the_same_data_gives_the_same_integers(
    two: Two, data: DataSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruction, "LEAST_ROWS", 100)
    how = Fitting(Gptq(), rows=1, samples=50)
    first, again = found(two, data, 4, how), found(two, data, 4, how)
    for name, codes in first.codes.items():
        np.testing.assert_array_equal(codes, again.codes[name])
    other = found(two, data, 4, replace(how, seed=1))
    assert any((codes != other.codes[name]).any() for name, codes in first.codes.items())


def test_data_that_overflows_is_refused(two: Two, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.full((20, 3, 6, 6), 3e38, np.float32))
    with pytest.raises(DataError, match="not finite"):
        found(two, DataSpec(str(tmp_path / "x.npz")), 4, Fitting(Gptq()), 0)


def test_layers_with_too_many_inputs_are_rounded_without_data(
    two: Two, data: DataSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruction, "LARGEST", 30)  # of the three, b.w has 36
    made, plain = found(two, data, 3, Fitting(Gptq())), found(two, None, 3, Fitting(Gptq()))
    assert [e.layer for e in made.errors] == ["a.y", "y"]
    np.testing.assert_array_equal(made.codes["b.w"], plain.codes["b.w"])
    assert (made.codes["a.w"] != plain.codes["a.w"]).any()
