"""Files of multipliers by hyperedge name."""

from __future__ import annotations

from pathlib import Path

import pytest
from nets import chain

from prunec.compiler.errors import UsageError
from prunec.compiler.multipliers import multipliers_of, read_multipliers
from prunec.runtime.subject import open_model


def test_what_is_not_named_counts_once(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_text('{"conv2.weight:0": 2.5}')
    graph = open_model(chain()).graph
    assert multipliers_of(graph, read_multipliers(file)).tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "must be an object"),
        ("{", "is not JSON"),
        ('{"a": 0}', "'a': must be a number above 0"),
        ('{"a": "2"}', "must be a number above 0"),
        ('{"a": true}', "must be a number above 0"),
        ('{"a": Infinity}', "must be a number above 0"),
    ],
)
def test_a_broken_file_is_a_usage_error(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "m.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_multipliers(file)


def test_a_missing_file_and_an_unknown_name_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_multipliers(tmp_path / "none.json")
    with pytest.raises(UsageError, match=r"did you mean 'conv1.weight:0'"):
        multipliers_of(open_model(chain()).graph, {"conv1.weigth:0": 2.0})
