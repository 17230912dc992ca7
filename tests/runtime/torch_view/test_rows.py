"""Every row of the table computes what onnxruntime does."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

torch = pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")

from view_cases import CASES, Case  # noqa: E402 - after the check for torch

from prunec.runtime.torch_view import torch_view  # noqa: E402
from prunec.runtime.torch_view.ops import ROWS  # noqa: E402
from prunec.runtime.torch_view.tensors import from_numpy, to_numpy  # noqa: E402

# float32 sums in another order, sigmoid and exp of other libraries.
TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}


def expected(case: Case) -> list[np.ndarray]:
    model = case.model()
    if case.reference:
        return ReferenceEvaluator(model).run(None, case.feeds())
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, case.feeds())


def found(case: Case) -> list[np.ndarray]:
    view = torch_view(case.model()).eval()
    with torch.no_grad():
        made = view({name: from_numpy(x) for name, x in case.feeds().items()})
    return [to_numpy(y) for y in made.values()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_row_computes_what_onnxruntime_does(case: Case) -> None:
    for have, want in zip(found(case), expected(case), strict=True):
        assert have.shape == np.shape(want)
        # Unsigned integers are wider signed ones in torch; integer products stay floats.
        kinds = (np.asarray(want).dtype.kind.replace("u", "i"), have.dtype.kind.replace("u", "i"))
        assert kinds[0] == kinds[1] or case.op in ("ConvInteger", "MatMulInteger")
        if case.random:
            assert have.dtype == want.dtype
            assert len(np.unique(have)) > 1
            continue
        np.testing.assert_allclose(
            have.astype(np.float64), np.asarray(want).astype(np.float64), **TOLERANCE
        )


def test_every_row_has_a_case() -> None:
    assert sorted(ROWS.keys() - {case.op for case in CASES}) == []
    assert sorted({case.op for case in CASES} - ROWS.keys()) == []
