from __future__ import annotations

from typing import Any

import pytest

from prunec.compiler.grouped import (
    blocks_in_words,
    gathers_left,
    grouped_layers,
    mean_kept,
    stays_dense,
)
from prunec.compiler.partition import Partition
from prunec.compiler.plan import Plan

BLOCKS = Partition(2, (0, -1, 1, 0, 1), (1, 0))


def plan(record: Any, groups: dict[str, Partition]) -> Plan:
    options = {} if record is None else {"grouping": record}
    return Plan("", {}, {}, {}, {}, 0.0, None, None, {}, options, {}, groups=groups)


def test_layers_count_what_stays() -> None:
    record = {"kept": {"a": 0.5, "b": "much"}, "gathers": ["n.before"], "stays_dense": {"c": "no"}}
    found = plan(record, {"a": BLOCKS, "b": BLOCKS})
    layers = grouped_layers(found)
    assert [(x.weight, x.groups, x.outputs, x.inputs, x.kept) for x in layers] == [
        ("a", 2, 4, 2, 0.5),
        ("b", 2, 4, 2, None),
    ]
    assert mean_kept(layers) == 0.5
    assert gathers_left(found) == ("n.before",)
    assert [(d.node, d.message) for d in stays_dense(found)] == [("c", "no")]


@pytest.mark.parametrize("record", [None, "text", {"kept": 3, "gathers": 1, "stays_dense": []}])
def test_plans_that_say_nothing_of_groups(record: Any) -> None:
    found = plan(record, {"a": BLOCKS})
    assert mean_kept(grouped_layers(found)) is None
    assert gathers_left(found) is None
    assert stays_dense(found) == ()


def test_blocks_in_words() -> None:
    found = plan(None, {"a": BLOCKS})
    assert blocks_in_words(found, "a", 0) == [
        "the plan puts them into 2 groups:",
        "    group 0: 0,3 read inputs 1",
        "    group 1: 2,4 read inputs 0",
        "    removed: 1",
    ]
    assert blocks_in_words(found, "a", 1)[1] == "    group 0: 1 are read by outputs 0,3"
    assert "no groups" in blocks_in_words(found, "b", 0)[0]
