"""Operators that freeze all they touch: a stated reason, and no rule beside it."""

from __future__ import annotations

import onnx
import pytest

from prunec.compiler.reasons import Reason
from prunec.compiler.rules import RULES
from prunec.compiler.rules.stays import EXPERIMENTS, STAYS, why_it_stays


def test_no_operator_has_a_rule_and_a_reason() -> None:
    assert STAYS.keys() & RULES.keys() == set()


def test_every_row_is_an_operator_or_a_domain() -> None:
    schemas = onnx.defs.get_all_schemas()
    known = {s.name for s in schemas if not s.domain} | {f"{s.domain}::*" for s in schemas}
    # onnx has no schemas of onnxruntime's own operators and of those that it dropped.
    own = {op for op in STAYS if op.startswith("com.microsoft::")}
    assert STAYS.keys() - own - set(EXPERIMENTS) <= known


@pytest.mark.parametrize("op", sorted(STAYS))
def test_every_row_says_why(op: str) -> None:
    reason, text = STAYS[op]
    assert reason is not Reason.UNKNOWN_OP
    assert text


def test_a_whole_domain_may_stay() -> None:
    assert why_it_stays("ai.onnx.ml::ZipMap") == STAYS["ai.onnx.ml::*"]


@pytest.mark.parametrize("op", ["Blorp", "com.example::Blorp"])
def test_an_operator_nobody_knows_has_no_stated_reason(op: str) -> None:
    assert why_it_stays(op)[0] is Reason.UNKNOWN_OP
