"""`--rules`: operators that only the user knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx import helper
from tiny import array, mixed, model_of, prunec, save

import prunec as package

Capture = pytest.CaptureFixture[str]
MIX = """
from math import prod

def mix(site, ins, c):
    "x (N, C, H, W), w (M, C): a 1x1 convolution."
    x, w = ins
    c.tie(x[1], w[1], "the summed axis of a Mix")
    c.free(w[0])
    c.macs(x[0], w[0], w[1], x[2], x[3])
    return [(x[0], w[0], x[2], x[3])]

RULES = {"example::Mix": mix}
COUNTERS = {"example::Mix": lambda node, ins, out: prod(out) * ins[1][1]}
SHAPES = {"example::Mix": lambda node, ins: [(ins[0][0], ins[1][0], *ins[0][2:])]}
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mix_rules.py").write_text(MIX)
    return save(mixed(), tmp_path / "net.onnx")


def test_every_command_takes_rules(model: Path, capsys: Capture) -> None:
    with_rules = ("--rules", "mix_rules.py")
    body = json.loads(prunec(capsys, "inspect", model, "--json", *with_rules).out)
    assert [e["name"] for e in body["hyperedges"]] == ["a:0", "m:0"]
    assert body["diagnostics"] == []
    assert body["costs"]["flops"] == 36 * (3 * 8 + 8 * 8 + 8 * 2)
    text = prunec(capsys, "explain", model, "m:1", *with_rules).out
    assert "hyperedge a:0" in text
    budget = ("--budget", "flops=0.5", "--align", 1)
    assert prunec(capsys, "plan", model, *budget, *with_rules).code == 0
    assert json.loads((model.parent / "net.plan.json").read_text())["options"]["rules"] == [
        "mix_rules"
    ]
    done = prunec(capsys, "apply", model, "net.plan.json", "--no-verify", "--rules", "mix_rules")
    assert done.code == 0
    done = prunec(
        capsys, "verify", model, "net.pruned.onnx", "net.plan.json", "--json", *with_rules
    )
    checks = json.loads(done.out)["checks"]
    assert checks["cost"]["passed"]  # polynomial == the counter of the module
    assert checks["weights"]["passed"]
    assert done.code == 4
    assert "example:Mix" in checks["dense runs"]["detail"]  # onnxruntime has no such operator
    assert prunec(capsys, model, *budget, *with_rules, "--no-verify").code == 0


def test_a_plan_asks_for_the_rules_that_it_was_made_with(model: Path, capsys: Capture) -> None:
    assert prunec(capsys, "plan", model, "--budget", "flops=0.5", "--rules", "mix_rules").code == 0
    done = prunec(capsys, "apply", model, "net.plan.json", "--no-verify")
    assert done.code == 1
    assert "was made with --rules mix_rules, which is missing here" in done.complaint()


def test_without_its_rule_the_operator_is_named(model: Path, capsys: Capture) -> None:
    body = json.loads(prunec(capsys, "inspect", model, "--json").out)
    assert "example::Mix: no coupling rule" in body["diagnostics"][0]["message"]
    assert "unknown-op" in body["coverage"]["flops"]["barriers"]
    assert "--rules" in body["barriers"]["unknown-op"]["remedy"]
    done = prunec(capsys, model, "--budget", "flops=0.5")
    assert done.code == 3
    assert "unknown-op" in done.complaint()


def test_a_rule_that_fails_is_a_diagnostic(model: Path, capsys: Capture) -> None:
    Path("wrong.py").write_text(MIX.replace("x, w = ins", "x, w, b = ins"))
    body = json.loads(prunec(capsys, "inspect", model, "--json", "--rules", "wrong.py").out)
    (found,) = body["diagnostics"]
    assert found["node"] == "mix"
    assert "its rule (--rules wrong) failed: ValueError: not enough values" in found["message"]
    done = prunec(capsys, "inspect", model, "--rules", "wrong.py", "--strict")
    assert "its rule (--rules wrong) failed" in done.complaint()


def test_a_rule_that_gives_the_wrong_shape_is_a_diagnostic(model: Path, capsys: Capture) -> None:
    wrong = MIX.replace("[(x[0], w[0], x[2], x[3])]", "[(x[0], w[0])]")
    Path("wrong.py").write_text(wrong)
    body = json.loads(prunec(capsys, "inspect", model, "--json", "--rules", "wrong.py").out)
    assert "its rule gives the shape (1, 8) for v" in body["diagnostics"][0]["message"]


def test_a_counter_that_disagrees_fails_the_cost_check(model: Path, capsys: Capture) -> None:
    Path("wrong.py").write_text(MIX.replace("prod(out) *", "prod(out) * 2 *"))
    words = ("--budget", "flops=0.5", "--rules", "wrong.py")
    assert prunec(capsys, model, *words, "--no-verify").code == 0
    done = prunec(capsys, "verify", model, "net.pruned.onnx", "net.plan.json", "--json", *words[2:])
    assert not json.loads(done.out)["checks"]["cost"]["passed"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rules", "nowhere"], "--rules nowhere: no module of this name"),
        (["--rules", "nowhere.py"], "--rules nowhere.py: there is no such file"),
        (["--rules", "json"], "--rules json: has no RULES"),
    ],
)
def test_a_module_that_cannot_be_used_is_a_usage_error(
    model: Path, capsys: Capture, words: list[str], message: str
) -> None:
    done = prunec(capsys, "inspect", model, *words)
    assert done.code == 2
    assert message in done.complaint()


def test_the_configuration_file_names_rules_beside_itself(model: Path, capsys: Capture) -> None:
    folder = model.parent / "settings"
    folder.mkdir()
    (model.parent / "mix_rules.py").rename(folder / "mix_rules.py")
    (folder / "prunec.toml").write_text('budget = "flops=0.5"\nrules = ["mix_rules.py"]\n')
    done = prunec(capsys, model, "--config", "settings/prunec.toml", "--no-verify", "-q")
    assert (done.code, done.err) == (0, "")


def test_python_takes_modules_names_and_files(model: Path) -> None:
    for rules in ("mix_rules", "mix_rules.py", Path("mix_rules.py"), ["mix_rules"]):
        graph = package.inspect(model, rules=rules)
        assert package.coverage(graph).resources["flops"].prunable == 1
    result = package.prune(model, "flops=0.5", rules="mix_rules", verify=False)
    assert result.plan.rules == ("mix_rules",)
    settings = package.Settings(rules=("mix_rules",), verify=False)
    again = package.apply(model, result.plan, settings)
    assert again.to_proto() == result.to_proto()


def test_a_users_rule_replaces_a_built_in_one_and_is_proven(
    tmp_path: Path, capsys: Capture
) -> None:
    pytest.importorskip("onnxruntime")
    node = helper.make_node
    net = model_of(
        [
            node("Conv", ["x", "a"], ["u"], name="first"),
            node("Selu", ["u"], ["v"], name="selu"),
            node("Conv", ["v", "b"], ["y"], name="last"),
        ],
        {"a": array(8, 3, 1, 1), "b": array(2, 8, 1, 1)},
        out=(1, 2, 6, 6),
    )
    path = save(net, tmp_path / "net.onnx")
    rules = tmp_path / "selu.py"
    rules.write_text("RULES = {'Selu': lambda site, ins, c: [ins[0]]}\n")
    words = ("--budget", "flops=0.5", "--align", 1, "--rules", rules)
    done = prunec(capsys, path, *words, "--json")
    assert done.code == 0, done.err
    body = json.loads(done.out)
    assert body["verification"]["passed"]
    assert [d["code"] for d in body["diagnostics"]] == ["rule-replaced"]
