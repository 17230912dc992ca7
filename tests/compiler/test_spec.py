from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from prunec.compiler.errors import UsageError
from prunec.compiler.spec import describe, parse, render, suggest


@dataclass(frozen=True, slots=True)
class Brew:
    """Makes tea. And more."""

    name: ClassVar[str] = "brew"
    minutes: int = 3
    sugar: float = 0.5
    milk: bool = False
    limit: float | None = 30.0
    leaf: str = "green"


TABLE = {"brew": Brew}


@pytest.mark.parametrize(
    ("text", "component"),
    [
        ("brew", Brew()),
        ("brew{}", Brew()),
        (" brew { minutes = 5 , milk=true } ", Brew(minutes=5, milk=True)),
        ("brew{limit=none,leaf=black}", Brew(limit=None, leaf="black")),
        ("brew{limit=7,sugar=1e-3}", Brew(limit=7.0, sugar=0.001)),
    ],
)
def test_a_component_is_read_and_written_back(text: str, component: Brew) -> None:
    assert parse(text, TABLE, "drink") == component
    assert parse(render(component), TABLE, "drink") == component


def test_only_options_that_differ_are_written() -> None:
    assert render(Brew(milk=True, minutes=3)) == "brew{milk=true}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("brow", "unknown drink 'brow'; did you mean 'brew'?"),
        ("brew{minutes=5", "the option list must end with '}'"),
        ("brew{minute=5}", "has no option 'minute'; did you mean 'minutes'?"),
        ("brew{minutes}", "option 'minutes' needs a value"),
        ("brew{minutes=soon}", "option 'minutes' must be int, not 'soon'"),
        ("brew{milk=maybe}", "must be bool, not 'maybe'"),
        ("brew{limit=long}", "must be float or NoneType, not 'long'"),
    ],
)
def test_a_bad_specification_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text, TABLE, "drink")
    assert message in str(error.value)


def test_a_word_without_neighbours_lists_the_known_ones() -> None:
    assert suggest("zzz", ["a", "b"]) == "; known: a, b"
    assert suggest("zzz", []) == ""


def test_help_shows_options_with_defaults_and_the_first_line() -> None:
    assert describe(TABLE) == (
        "brew{minutes=3,sugar=0.5,milk=False,limit=30.0,leaf=green}: Makes tea. And more."
    )
