"""Bits as a choice: what is asked for, what it is worth, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prunec.compiler.cost import Linear
from prunec.compiler.errors import UsageError
from prunec.passes.quantize.bits import AutoBits, bit_dials, is_auto, parse_auto, settled
from prunec.passes.quantize.errors import Sensitivity, falling
from prunec.passes.quantize.footprint import Footprint, Item, footprint, with_footprint
from prunec.passes.quantize.norms import fold_norms
from prunec.passes.quantize.places import places
from prunec.passes.quantize.recipe import Recipe, Rule
from prunec.runtime.subject import Subject, open_model
from prunec.tools.demo import DIGITS


@pytest.fixture(scope="module")
def digits() -> Subject:
    subject = open_model(DIGITS)
    folded = subject.model.clone()
    fold_norms(folded)
    return replace(subject, model=folded)


def test_the_text_of_auto_comes_back() -> None:
    for text in (
        "auto",
        "auto{choices=4+8+32}",
        "auto{choices=4+8+32,measure=layers,activation_bits=16,rounding=gptq}",
        "auto{activation_bits=0,block=32}",
    ):
        assert str(parse_auto(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("auto{choices=8}", "two or more"),
        ("auto{choices=4+9}", "two or more"),
        ("auto{choices=4+eight}", "whole numbers"),
        ("auto{measure=both}", "measure must be one of"),
        ("auto{nothing=1}", "no option"),
        ("auto{choices=4+8", "must end"),
    ],
)
def test_what_is_no_choice_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_auto(text)


def test_a_rule_fixes_bits_and_the_chosen_ones_become_rules() -> None:
    auto = AutoBits(recipe=Recipe(rules=(Rule("stem", weights=8),)))
    assert auto.of(["stem.weight"]) == (8,)
    assert auto.of(["head.weight"]) == (4, 8)
    recipe = settled(auto, {"a.b": 4, "c": 32})
    four, stays, *_ = recipe.rules
    assert recipe.rule_for(["a.b"]) == four and four.weights == 4
    assert recipe.rule_for(["c"]) == stays and stays.skip
    assert recipe.rule_for(["aXb"]) is None, "a name is no pattern"


def test_a_file_may_leave_bits_open_but_for_its_rules(tmp_path: Path) -> None:
    file = tmp_path / "mixed.toml"
    file.write_text(
        'recipe = "auto{choices=4+8+32}"\nexclude = ["^head"]\n[rules.stem]\nweights = 8\n'
    )
    assert is_auto(str(file))
    auto = parse_auto(str(file))
    assert (auto.of(["stem.weight"]), auto.of(["other"])) == ((8,), (4, 8, 32))
    assert auto.recipe.exclude == ("^head",)
    file.write_text('recipe = "w8a8"\n')
    assert not is_auto(str(file))


def test_more_bits_are_never_worth_less(digits: Subject) -> None:
    noisy = np.array([0.3, 0.01, 0.02])
    assert falling(noisy).tolist() == [0.3, 0.02, 0.02]
    found = [Sensitivity("stem.weight", (3, 4, 8), noisy, np.array([3.0, 0.5, 0.6]))]
    scores = np.full(digits.graph.number_of_groups, 6 / digits.graph.number_of_groups)
    (dial,) = bit_dials(digits.graph, found, scores, losses=True)
    assert dial.values == pytest.approx((0.0, 0.4, 0.4)), "nats, of 6 nats in all"
    (dial,) = bit_dials(digits.graph, found, scores, losses=False)
    assert dial.values[1] == dial.values[2] > dial.values[0] > 0
    assert (dial.counts, dial.whole) == ((3, 4, 8), 32)


def test_every_tensor_takes_whole_bytes() -> None:
    odd = Item((Linear(0, ((0, 1),)), Linear(3)), 4)
    assert [odd.nbytes([n]) for n in (1, 2, 3)] == [2, 3, 5]
    blocks = Item((Linear(0, ((0, 1),)), Linear(5)), 32, (32, 1))
    assert [blocks.nbytes([n]) for n in (1, 32, 33)] == [20, 20, 40]
    stored = Footprint({"x": odd}, {"w": {4: (odd,), 8: (blocks,)}}, frozenset())
    assert stored.nbytes([3], {"w": 4}) == 10
    assert stored.nbytes([3], {"w": 8}) == 25


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(8, None, block=16)])
def test_what_is_posed_is_never_below_what_is_stored(digits: Subject, recipe: Recipe) -> None:
    graph = digits.graph
    where = places(digits.model, digits.facts, recipe)
    choices = dict.fromkeys(where.weights, (4, 8, 32))
    stored = footprint(digits.model, digits.facts, graph, where, choices)
    for bits in (4, 8):
        fixed = footprint(
            digits.model, digits.facts, graph, where, dict.fromkeys(where.weights, (bits,))
        )
        posed = with_footprint(graph, fixed, {})
        rng = np.random.default_rng(bits)
        for _ in range(10):
            counts = [int(rng.integers(1, e.size + 1)) for e in graph.edges]
            exact = fixed.nbytes(counts, dict.fromkeys(where.weights, bits))
            assert exact == stored.nbytes(counts, dict.fromkeys(where.weights, bits))
            slack = posed.costs["bytes"](counts) - exact
            most = 64 * len(where.weights) if recipe.block else 3 * len(where.weights)
            assert 0 <= slack <= most, "partial bytes and blocks only"
    assert with_footprint(graph, stored, choices).costs["params"] is graph.costs["params"]
