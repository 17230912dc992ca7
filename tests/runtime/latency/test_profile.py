"""Profiles in files: what comes back, what is refused, whose times are taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from timed import ELSEWHERE

from prunec.compiler.errors import ProfileError
from prunec.runtime.latency.half_edge import Halves
from prunec.runtime.latency.profile import (
    Measured,
    Setup,
    choose,
    from_json,
    merge,
    read_profile,
    to_json,
    write_profile,
)

HERE = Setup("This CPU", "cpu", 1, "float32", "1.31.1")


def measured() -> Measured:
    return Measured(
        {"conv": [(8, 16, 1200), (16, 16, 1300)], "fixed": [(900,)]},
        {"abc": 4},
        {"abc": Halves(5000, {"w:0": 4000})},
    )


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    write_profile({HERE: measured(), ELSEWHERE: Measured()}, path)
    assert read_profile(path) == {HERE: measured(), ELSEWHERE: Measured()}


def test_the_same_measurements_give_the_same_bytes() -> None:
    text = to_json({HERE: measured(), ELSEWHERE: measured()})
    assert to_json(from_json(text, "p")) == text
    assert to_json({ELSEWHERE: measured(), HERE: measured()}) == text


def test_merging_adds_what_is_new_and_nothing_twice() -> None:
    profile = {HERE: measured()}
    more = Measured({"conv": [(8, 16, 1200), (24, 16, 1500)]}, {"abc": 2, "def": 8})
    merge(profile, {HERE: more, ELSEWHERE: measured()})
    assert profile[HERE].cells["conv"] == [(8, 16, 1200), (16, 16, 1300), (24, 16, 1500)]
    assert profile[HERE].models == {"abc": 4, "def": 8}
    assert profile[ELSEWHERE] == measured()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is not JSON"),
        ("[]", "no list $.profiles"),
        ('{"schema": 9, "profiles": []}', "$.schema is 9"),
        ('{"schema": 1, "profiles": [{}]}', r"$.profiles[0]: malformed"),
        ('{"schema": 1, "profiles": [3]}', r"$.profiles[0]: malformed"),
    ],
)
def test_a_malformed_profile_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ProfileError) as error:
        from_json(text, "p.json")
    assert complaint in str(error.value)


def test_a_time_that_was_measured_twice_keeps_its_weight_in_a_file() -> None:
    twice = Measured({"fixed": [(900,), (900,), (1000,)]})
    assert from_json(to_json({HERE: twice}), "p") == {HERE: twice}
    profile = {HERE: Measured({"fixed": [(900,)]})}
    merge(profile, {HERE: twice})
    assert sorted(profile[HERE].cells["fixed"]) == twice.cells["fixed"]


def test_profiles_whose_cells_differ_in_width_are_not_merged() -> None:
    with pytest.raises(ProfileError, match="differ in how many sizes cell conv has"):
        merge({HERE: measured()}, {HERE: Measured({"conv": [(8, 1200)]})})


@pytest.mark.parametrize("number", [-1, True, 1.5, "7", None, [], {}, 10**16, 1e400, float("nan")])
@pytest.mark.parametrize(
    "place",
    [
        ("setup", "threads"),
        ("models", "abc"),
        ("halves", "abc", "dense"),
        ("halves", "abc", "edges", "w:0"),
        ("cells", "conv", 0, 0),
        ("cells", "conv", 0, 2),
        ("cells", "fixed"),
    ],
)
def test_what_is_no_count_is_refused(place: tuple[Any, ...], number: object) -> None:
    with pytest.raises(ProfileError, match=r"p\.json: \$\.profiles\[0\]: malformed"):
        from_json(edited(place, number), "p.json")


@pytest.mark.parametrize("text", [None, 3, [], {}, "\x1b[2J", "\ud800"])
@pytest.mark.parametrize("field", ["device", "provider", "precision", "onnxruntime"])
def test_a_setup_is_printable_text(field: str, text: object) -> None:
    with pytest.raises(ProfileError, match=rf"setup\.{field} must be printable text"):
        from_json(edited(("setup", field), text), "p.json")


def test_a_size_of_nothing_and_a_dense_model_without_time_are_refused() -> None:
    for place in (("cells", "conv", 0, 0), ("halves", "abc", "dense")):
        with pytest.raises(ProfileError, match="0 is no whole number from 1"):
            from_json(edited(place, 0), "p.json")


def edited(place: tuple[Any, ...], value: object) -> str:
    body = json.loads(to_json({HERE: measured()}))
    inner = body["profiles"][0]
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return json.dumps(body)


@pytest.mark.parametrize("row", [[], [8, -1], [8, 1.5], ["a"], [8, True]])
def test_a_malformed_row_is_refused(row: list[object]) -> None:
    body = json.loads(to_json({HERE: measured()}))
    body["profiles"][0]["cells"]["conv"] = [row]
    with pytest.raises(ProfileError, match=r"\$\.profiles\[0\]"):
        from_json(json.dumps(body), "p.json")


def test_rows_of_a_cell_have_one_length() -> None:
    body = json.loads(to_json({HERE: measured()}))
    body["profiles"][0]["cells"]["conv"] = [[8, 16, 1200], [8, 900]]
    with pytest.raises(ProfileError, match="equally long"):
        from_json(json.dumps(body), "p.json")


def test_a_profile_of_another_machine_serves_where_it_is_the_only_one() -> None:
    assert choose({ELSEWHERE: measured()}, HERE, "p.json")[0] == ELSEWHERE
    assert choose({ELSEWHERE: Measured(), HERE: measured()}, HERE, "p.json")[0] == HERE


def test_two_other_machines_are_a_question() -> None:
    third = Setup("Third CPU", "cpu", 1, "float32", "1.0.0")
    with pytest.raises(ProfileError, match="none is this one"):
        choose({ELSEWHERE: Measured(), third: Measured()}, HERE, "p.json")


@pytest.mark.parametrize(
    "other",
    [
        Setup("This CPU", "cuda", 1, "float32", "1.31.1"),
        Setup("This CPU", "cpu", 4, "float32", "1.31.1"),
        Setup("This CPU", "cpu", 1, "float16", "1.31.1"),
    ],
)
def test_times_of_another_provider_threads_or_precision_are_not_taken(other: Setup) -> None:
    with pytest.raises(ProfileError, match="was not measured with cpu, 1 thread and float32"):
        choose({other: measured()}, HERE, "p.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"none\.json"):
        read_profile(tmp_path / "none.json")
