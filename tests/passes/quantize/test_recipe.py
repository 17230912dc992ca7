"""Recipes: names, options, files."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunec.compiler.errors import UsageError
from prunec.passes.quantize.recipe import RECIPES, Recipe, Rule, parse_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_name_gives_its_bits_and_is_its_own_text(name: str) -> None:
    assert parse_recipe(name) == RECIPES[name]
    assert str(RECIPES[name]) == name


def test_other_bits_need_no_row() -> None:
    assert (parse_recipe("w6a7").bits, parse_recipe("w6a7").activation_bits) == (6, 7)
    assert parse_recipe("weights=int5").activation_bits is None


def test_options_in_braces_hold_components_with_options_of_their_own() -> None:
    text = "w4a8{first=false,ranges=percentile,rounding=gptq{ridge=0.1,sweeps=2}}"
    recipe = parse_recipe(text)
    assert (recipe.bits, recipe.first, recipe.rounding) == (4, False, "gptq{ridge=0.1,sweeps=2}")
    assert parse_recipe(str(recipe)) == recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("w8a9", "2 to 8 or 16, not 9"),
        ("w1a8", "2 to 8, not 1"),
        ("w8b8", "did you mean 'w8a8'"),
        ("w8a8{range=minmax}", "did you mean 'ranges'"),
        ("w8a8{ranges=minmx}", "did you mean 'minmax'"),
        ("w8a8{first}", "needs a value"),
        ("w8a8{first=maybe}", "true or false"),
        ("w8a8{block=x}", "whole number"),
        ("w8a8{block=1}", "0 or at least 2"),
        ("w8a8{first=true", "must end with '}'"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_recipe(text)


@pytest.mark.parametrize("suffix", ["json", "toml"])
def test_files_hold_patterns(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mixed.{suffix}"
    path.write_text(
        '{"recipe": "w8a8{last=false}", "ranges": "mse", "exclude": ["^head"], '
        '"rules": {"conv2": {"weights": 4, "activations": 16}, "fc": {"skip": true}}}'
        if suffix == "json"
        else 'recipe = "w8a8{last=false}"\nranges = "mse"\nexclude = ["^head"]\n'
        "[rules.conv2]\nweights = 4\nactivations = 16\n[rules.fc]\nskip = true\n"
    )
    recipe = parse_recipe(str(path))
    assert recipe == Recipe(
        last=False,
        ranges="mse",
        exclude=("^head",),
        rules=(Rule("conv2", 4, 16), Rule("fc", skip=True)),
    )
    assert recipe.rule_for(["/conv2/Conv", "conv2.weight"]) == Rule("conv2", 4, 16)
    assert recipe.rule_for(["conv1"]) is None
    assert recipe.excludes(["head.weight"]) == "^head"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "must be an object"),
        ("{", "bad.json"),
        ('{"exclude": "a"}', "list of patterns"),
        ('{"exclude": ["("]}', "no regular expression"),
        ('{"rules": []}', "must be a table"),
        ('{"rules": {"a": 4}}', "must be a table"),
        ('{"rules": {"a": {"bits": 4}}}', "no option 'bits'"),
        ('{"rules": {"a": {"weights": "4"}}}', "a number of bits"),
        ('{"rules": {"a": {"skip": 1}}}', "true or false"),
        ('{"rules": {"a": {"weights": 9}}}', "2 to 8, not 9"),
        ('{"rouding": "gptq"}', "did you mean 'rounding'"),
        ('{"rounding": 3}', "must be text"),
        ('{"block": [1]}', "whole number"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        parse_recipe(str(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read"):
        parse_recipe(str(tmp_path / "none.toml"))


def test_data_is_needed_for_activations_and_for_roundings_that_read_it() -> None:
    needs = {name: parse_recipe(name).needs_data for name in ("w8a8", "weights=int8")}
    assert needs == {"w8a8": True, "weights=int8": False}
    assert parse_recipe("weights=int8{rounding=gptq}").needs_data
    assert parse_recipe("weights=int8{correction=true}").needs_data


def test_what_is_left_open_goes_by_the_bits() -> None:
    def told(recipe: Recipe) -> tuple[str, str, bool]:
        return recipe.range_text, recipe.rounding_text, recipe.corrects

    assert told(parse_recipe("w8a8")) == ("minmax", "nearest", False)
    assert told(parse_recipe("w4a8")) == ("minmax", "gptq", True)
    assert told(parse_recipe("w8a4")) == ("mse", "nearest", True)
    assert told(parse_recipe("w4a4")) == ("mse", "gptq", True)
    assert told(Recipe(rules=(Rule("fc", weights=4),))) == ("minmax", "gptq", True)
    assert told(parse_recipe("w4a4{ranges=minmax,rounding=nearest,correction=false}")) == (
        "minmax",
        "nearest",
        False,
    )
    assert parse_recipe("w8a8").nearest and not parse_recipe("w4a8").nearest


def test_weights_alone_are_rounded_by_data_where_there_is_some() -> None:
    alone = parse_recipe("weights=int4")
    assert (alone.rounding_text, alone.corrects, alone.needs_data) == ("nearest", False, False)
    assert str(alone.with_data()) == "weights=int4{rounding=gptq,correction=true}"
    assert parse_recipe("weights=int8").with_data() == parse_recipe("weights=int8")
    plain = parse_recipe("weights=int4{rounding=nearest,correction=false}")
    assert plain.with_data() == plain
    assert str(parse_recipe("w4a4").as_trained()) == "w4a4{rounding=nearest,correction=false}"
