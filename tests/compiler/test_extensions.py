from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx_ir as ir
import pytest

from prunec.compiler.diagnostics import Severity
from prunec.compiler.errors import UsageError
from prunec.compiler.extensions import extended, load_extensions
from prunec.compiler.labels import Coupler, Unsupported
from prunec.compiler.rules import RULES
from prunec.passes.criteria import CRITERIA

GOOD = """
def keep(site, ins, c):
    return [ins[0]]

RULES = {"example::Keep": keep}
COUNTERS = {"example::Keep": lambda node, ins, out: 7}
SHAPES = {"example::Keep": lambda node, shapes: [shapes[0]]}
"""


def written(folder: Path, text: str, name: str = "own_rules.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def module(**tables: object) -> ModuleType:
    made = ModuleType("made")
    vars(made).update(tables)
    return made


def test_a_file_adds_rows_to_all_tables(tmp_path: Path) -> None:
    found = load_extensions([written(tmp_path, GOOD)])
    assert found.names == ("own_rules",)
    assert set(found.rules) == {*RULES, "example::Keep"}
    assert found.counters["example::Keep"](None, (), ()) == 7
    assert found.shapes["example::Keep"](None, [(1, 2)]) == [(1, 2)]
    assert found.replaced == {}


def test_a_module_is_found_by_name_where_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, GOOD, "rules_of_mine.py")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert "example::Keep" in load_extensions(["rules_of_mine"]).rules
    assert sys.path == before


def test_without_modules_the_rules_are_prunecs_own() -> None:
    assert load_extensions().rules == RULES


def test_a_users_rule_wins_and_is_told_where_it_matters() -> None:
    def relu(*_: object) -> None:
        return None

    found = load_extensions([module(RULES={"ai.onnx::Relu": relu})])
    assert found.rules["Relu"] is not RULES["Relu"]
    (told,) = found.diagnostics({"Relu", "Conv"})
    assert (told.code, told.severity) == ("rule-replaced", Severity.INFO)
    assert "made for Relu" in told.message
    assert not list(found.diagnostics({"Conv"}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"--rules bad: has no RULES; write RULES = \{'example::Roll': roll\}"),
        ("RULES = [1]", "its RULES is a list"),
        ("RULES = {}\nSHAPES = 3", "its SHAPES is a int"),
        ("RULES = {'a::B': 3}", r"RULES\['a::B'\] is not a function"),
        ("RULES = {3: print}", "has the key 3; write 'domain::OpType'"),
        ("this is no Python", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
    ],
)
def test_a_module_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        load_extensions([written(tmp_path, text, "bad.py")])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not_there", "no module of this name; give one that Python can import"),
        ("not_there.at_all", "no module of this name"),
        ("not/there.py", "there is no such file"),
    ],
)
def test_a_module_that_is_not_there_is_told(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"--rules {name}: {message}"):
        load_extensions([name])


def test_two_modules_with_one_row_are_refused(tmp_path: Path) -> None:
    both = [written(tmp_path, GOOD, "one.py"), written(tmp_path, GOOD, "two.py")]
    with pytest.raises(UsageError, match="--rules two: RULES has 'example::Keep', and so has one"):
        load_extensions(both)


@pytest.mark.parametrize(
    ("outs", "message"),
    [
        (None, "must return a list with one tuple of label arrays per output"),
        ([np.zeros(3, np.int64)], "must return a list"),
        ([(np.zeros(3),)], "must return a list"),
    ],
)
def test_a_rule_that_returns_no_labels_freezes_its_node(outs: object, message: str) -> None:
    rule = load_extensions([module(RULES={"a::B": lambda *_: outs})]).rules["a::B"]
    with pytest.raises(Unsupported, match=message):
        rule(None, (), Coupler())  # type: ignore[arg-type]  # the rule reads no site


def test_a_rule_that_raises_freezes_its_node_with_the_text() -> None:
    def rule(*_: object) -> None:
        raise KeyError("shift")

    def unsupported(*_: object) -> None:
        raise Unsupported("a negative shift")

    found = load_extensions([module(RULES={"a::B": rule, "a::C": unsupported})])
    with pytest.raises(Unsupported, match=r"its rule \(--rules made\) failed: KeyError: 'shift'"):
        found.rules["a::B"](None, (), Coupler())  # type: ignore[arg-type]  # reads no site
    with pytest.raises(Unsupported, match=r"^a negative shift$"):
        found.rules["a::C"](None, (), Coupler())  # type: ignore[arg-type]  # reads no site


def test_a_counter_that_raises_names_module_and_node() -> None:
    def count(node: ir.Node, *_: object) -> int:
        raise ValueError("no kernel")

    found = load_extensions([module(RULES={}, COUNTERS={"a::B": count})])
    with pytest.raises(UsageError, match="--rules made: count failed at node n: ValueError"):
        found.counters["a::B"](ir.Node("a", "B", [], name="n"), (), ())


class Installed:
    """Stands for an installed package's entry point."""

    def __init__(self, name: str, found: object) -> None:
        self.name, self.value, self.found = name, f"package:{name}", found

    def load(self) -> object:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def install(monkeypatch: pytest.MonkeyPatch, *entries: Installed) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entries)


def test_an_entry_point_is_a_rule_or_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = module(RULES={"two::B": print}, SHAPES={"two::B": print})
    install(monkeypatch, Installed("one.dot.A", print), Installed("tables", tables))
    found = load_extensions()
    assert set(found.rules) == {*RULES, "one.dot::A", "two::B"}
    assert set(found.shapes) == {"two::B"}
    assert found.names == ()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Installed("Conv", print), "package:Conv of group prunec.rules: 'Conv' exists already"),
        (Installed("a.B", ImportError("gone")), "package:a.B of group prunec.rules: gone"),
    ],
)
def test_a_bad_entry_point_is_told(
    monkeypatch: pytest.MonkeyPatch, entry: Installed, message: str
) -> None:
    install(monkeypatch, entry)
    with pytest.raises(UsageError, match=message):
        load_extensions()


def test_other_tables_are_extended_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Installed("own", print))
    assert extended(CRITERIA, "prunec.criteria")["own"] is print
    install(monkeypatch, Installed("magnitude", print))
    with pytest.raises(UsageError, match="'magnitude' exists already"):
        extended(CRITERIA, "prunec.criteria")
