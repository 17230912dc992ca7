from __future__ import annotations

import pytest

from prunec.compiler.errors import UsageError
from prunec.runtime.sweep.grid import parse_grid


@pytest.mark.parametrize(
    ("budget", "labels"),
    [
        ("flops=0.9..0.75:0.05", ["flops=0.9", "flops=0.85", "flops=0.8", "flops=0.75"]),
        ("flops=0.5..0.7:0.1", ["flops=0.5", "flops=0.6", "flops=0.7"]),
        ("flops=0.9..0.6:0.2", ["flops=0.9", "flops=0.7"]),  # 0.6 is not on the grid
        ("flops=0.5..0.5:0.1", ["flops=0.5"]),
        ("flops=90%..70%:10%", ["flops=90%", "flops=80%", "flops=70%"]),
        ("bytes=4MB..3MB:0.5MB", ["bytes=4MB", "bytes=3.5MB", "bytes=3MB"]),
        ("flops=3e6..1e6:1e6", ["flops=3000000", "flops=2000000", "flops=1000000"]),
        ("flops=0.9|0.7|0.5", ["flops=0.9", "flops=0.7", "flops=0.5"]),
        ("flops=0.9..0.7:0.1|0.75|0.7", ["flops=0.9", "flops=0.8", "flops=0.7", "flops=0.75"]),
        ("flops=0.9|0.5,params=0.8", ["flops=0.9,params=0.8", "flops=0.5,params=0.8"]),
        (
            ["params=0.8..0.6:0.2", "flops=0.9|0.5"],
            ["params=0.8,flops=0.9", "params=0.6,flops=0.5"],
        ),
        ({"flops": [0.9, 0.5], "params": 0.8}, ["flops=0.9,params=0.8", "flops=0.5,params=0.8"]),
        ({"flops": "0.9..0.8:0.1"}, ["flops=0.9", "flops=0.8"]),
    ],
)
def test_a_budget_becomes_one_budget_per_point(budget: object, labels: list[str]) -> None:
    assert list(parse_grid(budget).labels) == labels


def test_the_resource_is_the_first_with_a_range_by_its_own_name() -> None:
    assert parse_grid("params=0.5,macs=0.9|0.8").resource == "flops"


def test_steps_are_decimal() -> None:
    labels = parse_grid("flops=0.9..0.3:0.05").labels
    assert len(labels) == 13
    assert labels[-1] == "flops=0.3"
    assert max(map(len, labels)) == len("flops=0.85")


@pytest.mark.parametrize(
    ("budget", "part"),
    [
        ("flops=0.5", "needs a budget with a range"),
        ("", "needs a budget with a range"),
        ("flops=0.9..0.3", "FIRST..LAST:STEP"),
        ("flops=0.9...0.3:0.1", "FIRST..LAST:STEP"),
        ("flops=0.9..0.3:0", "step must be greater than 0"),
        ("flops=0.9..0.3:1e-6", "more than 1000"),
        ("flops=0.9..30%:0.1", "same unit"),
        ("bytes=4MB..1:1MB", "same unit"),
        ("flops=0.9|0.5,params=0.8|0.7|0.6", "equally many points, not flops 2, params 3"),
        ("flops=0.9|0.5,flops=0.3", "given twice"),
        ("flops", "needs a value"),
        ("flops=|", "holds no value"),
    ],
)
def test_faults(budget: str, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        parse_grid(budget)
