from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from prunec.compiler.errors import ModelError, UsageError
from prunec.frontends.shapes import infer_facts
from prunec.runtime.inputs import (
    InputSpec,
    bind_inputs,
    bound_inputs,
    model_inputs,
    random_feeds,
)

FLOAT, INT64 = np.dtype(np.float32), np.dtype(np.int64)
IMAGE = InputSpec("image", FLOAT, ("batch", 3, "h", "w"))
TOKENS = InputSpec("tokens", INT64, ("batch", "length"))


def test_model_inputs_keep_symbols(model: ir.Model) -> None:
    assert model_inputs(model) == (InputSpec("image", FLOAT, ("batch", 3, 8, 8)),)


def test_bound_inputs_have_numbers_only(model: ir.Model) -> None:
    facts = infer_facts(model, {"image": (5, 3, 8, 8)})
    assert bound_inputs(model, facts)[0].shape == (5, 3, 8, 8)


def test_unbound_symbols_get_the_numbers_of_shape_inference() -> None:
    bound = bind_inputs([IMAGE, TOKENS])
    assert bound == {"image": (1, 3, 64, 64), "tokens": (1, 16)}


def test_a_symbol_has_one_number_over_all_inputs() -> None:
    bound = bind_inputs([TOKENS, IMAGE], batch=2, shapes={"image": (7, 3, 8, 8)})
    assert bound["tokens"] == (7, 16)


def test_a_shape_that_contradicts_the_model_is_refused() -> None:
    with pytest.raises(UsageError, match=r"does not fit float32 \(batch, 3, h, w\)"):
        bind_inputs([IMAGE], shapes={"image": (1, 4, 8, 8)})


def test_contradicting_symbols_are_refused() -> None:
    with pytest.raises(UsageError, match="'batch' is already 2"):
        bind_inputs([IMAGE, TOKENS], shapes={"image": (2, 3, 8, 8), "tokens": (3, 4)})


def test_a_shape_for_an_unknown_input_gets_the_nearest_match() -> None:
    with pytest.raises(UsageError, match="did you mean 'image'"):
        bind_inputs([IMAGE], shapes={"imgae": (1, 3, 8, 8)})


def test_random_feeds_are_reproducible_and_independent_of_other_inputs() -> None:
    alone = random_feeds([IMAGE], seed=3, batch=2)
    both = random_feeds([TOKENS, IMAGE], seed=3, batch=2)
    np.testing.assert_array_equal(alone["image"], both["image"])
    assert (random_feeds([IMAGE], seed=4, batch=2)["image"] != alone["image"]).any()


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("int64", 0, 1), ("int32", 0, 1), ("bool", 0, 1), ("uint8", 0, 255), ("int8", -128, 127)],
)
def test_random_integers_have_a_sensible_range(dtype: str, low: int, high: int) -> None:
    array = random_feeds([InputSpec("a", np.dtype(dtype), (4000,))])["a"]
    assert array.dtype == np.dtype(dtype)
    assert (int(array.min()), int(array.max())) == (low, high)


def test_wide_integers_stay_below_the_limit() -> None:
    assert random_feeds([TOKENS], batch=50, limit=1000)["tokens"].max() > 900


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_random_floats_are_standard_normal(dtype: str) -> None:
    array = random_feeds([InputSpec("a", np.dtype(dtype), (4000,))])["a"]
    assert array.dtype == np.dtype(dtype)
    assert abs(float(array.std()) - 1) < 0.1  # 4000 draws: standard error 0.011


def test_strings_cannot_be_drawn() -> None:
    with pytest.raises(ModelError, match="give --data"):
        random_feeds([InputSpec("text", np.dtype(object), (1,))])
