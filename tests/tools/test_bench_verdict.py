"""What the benchmarks print of figures and their bars."""

from __future__ import annotations

import pytest
from latency_model import _no_room
from verdict import Figure, report

MET = Figure("error", 2.5, "%", most=5.0)
MISSED = Figure("gain", 1.021, "x", least=1.1, excuse="there is no room")


def printed(capsys: pytest.CaptureFixture[str], *figures: Figure) -> tuple[int, list[str]]:
    code = report(figures)
    return code, capsys.readouterr().out.splitlines()


def test_bars_that_are_met_pass(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = printed(capsys, MET, Figure("time", 3.0, "s"))
    assert (code, lines[-1]) == (0, "PASS")
    assert lines[0].split() == ["error", "2.500", "%", "<=", "5", "PASS"]
    assert "PASS" not in lines[1]


@pytest.mark.parametrize("value", [1.021, None])
def test_a_bar_that_is_missed_fails(
    capsys: pytest.CaptureFixture[str], value: float | None
) -> None:
    code, lines = printed(capsys, MET, Figure("gain", value, "x", least=1.1))
    assert (code, lines[-1]) == (1, "FAIL")


def test_an_excused_miss_is_said_with_its_number_and_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, lines = printed(capsys, MET, MISSED)
    assert code == 0
    assert "MISSED" in lines[1]
    assert lines[2:] == [
        "NOT REACHED  gain: 1.021 x, the bar is >= 1.1 x",
        "             because there is no room",
        "PASS but for 1 not reached",
    ]


def test_an_excuse_changes_nothing_where_the_bar_is_met_or_another_one_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    met = Figure("gain", 1.2, "x", least=1.1, excuse="there is no room")
    assert printed(capsys, met)[1][-1] == "PASS"
    code, lines = printed(capsys, MISSED, Figure("error", 9.0, "%", most=5.0))
    assert (code, lines[-1]) == (1, "FAIL")


def test_there_is_no_room_where_a_mac_takes_no_longer_than_in_the_dense_model() -> None:
    why = _no_room(0.98, 1.03, 1.05, 0.001)
    assert "0.980 times" in why
    assert "1.030 times" in why
    assert "promised 1.050 x" in why
    assert "within 0.10% of the best" in why
    assert "not proven" in _no_room(0.98, 1.03, 1.05, None)
    assert _no_room(1.2, 1.3, 1.05, 0.001) == ""
