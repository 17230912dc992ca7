from __future__ import annotations

import pytest

from prunec.compiler.budget import parse_budget
from prunec.compiler.errors import UsageError
from prunec.compiler.problem import Limit

DENSE = {"flops": 40_551_040, "params": 268_336, "bytes": 1_073_344}


@pytest.mark.parametrize(
    ("text", "resource", "limit"),
    [
        ("flops=0.46", "flops", 18_653_478),
        ("macs=0.5", "flops", 20_275_520),
        ("flops=46%", "flops", 18_653_478),
        ("flops=1", "flops", 40_551_040),
        ("flops=1.9G", "flops", 1_900_000_000),
        ("flops=18m", "flops", 18_000_000),
        ("flops=2e7", "flops", 20_000_000),
        ("flops=20000000", "flops", 20_000_000),
        ("params=100k", "params", 100_000),
        ("bytes=4MB", "bytes", 4_000_000),
        ("bytes=1 MiB", "bytes", 1_048_576),
        ("bytes=512b", "bytes", 512),
        ("params = .5", "params", 134_168),
    ],
)
def test_a_budget_is_read_exactly(text: str, resource: str, limit: int) -> None:
    assert parse_budget(text, DENSE) == (Limit(resource, limit),)


def test_several_budgets_keep_their_order() -> None:
    limits = parse_budget(["params=0.5", "flops=0.4,bytes=1MB"], DENSE)
    assert [x.resource for x in limits] == ["params", "flops", "bytes"]


def test_the_same_budget_twice_is_one() -> None:
    assert parse_budget("flops=0.5,macs=50%", DENSE) == (Limit("flops", 20_275_520),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no budget given"),
        (" , ", "no budget given"),
        ("flop=0.5", "unknown resource 'flop'; did you mean 'flops'"),
        ("latency=0.5", "unknown resource 'latency'"),
        ("flops", "needs a value, such as flops=0.5"),
        ("flops=", "needs a value"),
        ("flops=abc", "not a number with an optional unit"),
        ("flops=-0.5", "not a number"),
        ("flops=nan", "not a number"),
        ("flops=0", "must be greater than 0"),
        ("flops=0.0k", "must be greater than 0"),
        ("flops=1.5", "a ratio is at most 1"),
        ("flops=999", "a ratio is at most 1"),
        ("flops=1234.5", "a whole number"),
        ("flops=4MB", "bytes are a unit of the resources 'bytes' and 'memory' only"),
        ("bytes=4XB", "unknown unit 'xb'"),
        ("flops=0.5,flops=0.4", "contradictory budgets: flops is given twice"),
        ("flops=0.5,macs=0.4", "contradictory budgets: flops is given twice"),
        ("flops=150%", "a ratio is at most 1"),
    ],
)
def test_a_bad_budget_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_budget(text, DENSE)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("0.6", 4_800_000),
        ("60%", 4_800_000),
        ("8ms", 8_000_000),
        ("500 us", 500_000),
        ("2S", 2 * 10**9),
    ],
)
def test_a_latency_is_a_ratio_or_a_time(text: str, limit: int) -> None:
    assert parse_budget(f"latency={text}", {"latency": 8_000_000}) == (Limit("latency", limit),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8", "a time needs a unit (8ms, 500us)"),
        ("8k", "unknown unit 'k'; known: ns, us, ms, s"),
        ("0ms", "must be greater than 0"),
    ],
)
def test_a_latency_without_a_unit_of_time_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_budget(f"latency={text}", {"latency": 8_000_000})
    assert message in str(error.value)
