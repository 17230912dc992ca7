from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from prunec.compiler.errors import UsageError
from prunec.passes.grouping import Grouping
from prunec.passes.regroup.sites import Site
from prunec.passes.regroup.told import told

MODEL = ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 17}), ir_version=8)


def site(name: str, outputs: int, inputs: int) -> Site:
    none = np.full(0, -1, np.int64)
    return Site(name, (name,), (outputs, inputs, 3, 3), none, none, 0, 0)


SITES = (site("a", 16, 3), site("b", 16, 16), site("c", 24, 16))


@pytest.mark.parametrize(
    ("grouping", "numbers", "dense"),
    [
        (Grouping(conv=4), {"b": 4, "c": 4}, {"a": "4 does not divide 16 outputs and 3 inputs"}),
        (Grouping(conv=8, min_width=3), {}, None),
        (Grouping(conv=8, max_groups=8), {"b": 8, "c": 8}, {"a": "does not divide"}),
        (Grouping(conv=16, depthwise=False), {}, None),
        (Grouping(max_per_group=6), {"c": 4}, {"a": "no equal groups", "b": "no equal groups"}),
        (Grouping(conv=1), {}, {}),
    ],
)
def test_numbers_for_all(
    grouping: Grouping, numbers: dict[str, int], dense: dict[str, str] | None
) -> None:
    if dense is None:
        with pytest.raises(UsageError, match="suits no convolution"):
            told(MODEL, SITES, grouping)
        return
    found = told(MODEL, SITES, grouping)
    assert found.numbers == numbers
    assert found.dense.keys() == dense.keys()
    assert all(part in found.dense[name] for name, part in dense.items())


def test_groups_that_are_too_narrow_say_what_rules_them_out() -> None:
    found = told(MODEL, (site("b", 16, 16), site("d", 64, 64)), Grouping(conv=8, min_width=4))
    assert found.numbers == {"d": 8}
    assert "--min-group-width" in found.dense["b"]


def test_a_model_without_dense_convolutions() -> None:
    with pytest.raises(UsageError, match="no convolution is dense"):
        told(MODEL, (), Grouping(conv=2))
