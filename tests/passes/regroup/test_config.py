"""Numbers of groups from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nets import conv
from properties.builder import Builder

from prunec.compiler.errors import UsageError
from prunec.passes.regroup.config import read_config, told_by_name
from prunec.passes.regroup.sites import group_sites
from prunec.runtime.subject import Subject, open_model


@pytest.fixture(scope="module")
def subject() -> Subject:
    b = Builder(3, 17, batch=1)
    x = b.relu(conv(b, b.input(1, 3, 4, 4), "stem.weight", 12, 3))
    x = b.relu(conv(b, x, "layer.0.conv.weight", 12, 3))
    b.output(conv(b, conv(b, x, "depth.weight", 12, group=12), "head.weight", 8))
    return open_model(b.model())


def written(folder: Path, table: object) -> dict[str, int]:
    path = folder / "groups.json"
    path.write_text(table if isinstance(table, str) else json.dumps(table))
    return read_config(path)


def told(subject: Subject, table: dict[str, int]) -> dict[str, int]:
    sites = group_sites(subject.model, subject.facts, subject.graph)
    return told_by_name(table, subject.model, sites)


def test_published_files_are_read(tmp_path: Path) -> None:
    table = {
        "module.layer.0.conv": {"G": 4, "F": 12, "C": 12, "id": 7},
        "head": {"G": 1, "F": 8, "C": 12},
    }
    assert written(tmp_path, table) == {"module.layer.0.conv": 4, "head": 1}


@pytest.mark.parametrize(
    "name",
    [
        "layer.0.conv",
        "module.layer.0.conv",
        "layer.0.conv.weight",
        "module.layer.0.conv.weight",
        "Conv_2",
    ],
)
def test_modules_weights_and_nodes_are_names(subject: Subject, name: str) -> None:
    assert told(subject, {name: 4}) == {"layer.0.conv.weight": 4}


def test_one_group_is_no_group_whatever_it_is_said_of(subject: Subject) -> None:
    assert told(subject, {"depth": 1, "head": 1}) == {}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"layer.0.cnv": 4}, "did you mean 'layer.0.conv'"),
        ({"module.hed": 4}, "did you mean 'head"),
        ({"depth": 2}, "can't get 2 groups"),
        ({"head": 3}, "possible: 1, 2, 4"),
        ({"head": 2, "module.head.weight": 4}, "both 2 and 4"),
    ],
)
def test_what_fits_no_convolution_is_an_error(
    subject: Subject, table: dict[str, int], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        told(subject, table)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("{", "is not JSON"),
        ([1, 2], "must be an object"),
        ({"a": True}, "whole number of at least 1, not True"),
        ({"a": 0}, "not 0"),
        ({"a": 2.0}, "not 2.0"),
        ({"a": "2"}, "not '2'"),
        ({"a": {"F": 2}}, "has no G"),
        ({"a": {"G": 3, "F": 8, "C": 9}}, "divide not both"),
        ({"a": {"G": 2, "F": "8"}}, "F must be"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, table: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        written(tmp_path, table)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_config(tmp_path / "none.json")
