"""What the README shows works as it stands."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import mixed, save

import prunec
from prunec.compiler.reasons import BARRIERS
from prunec.tools.cli import main
from prunec.tools.demo import DIGITS, IMAGES

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(DIGITS.read_bytes())
    return tmp_path


def test_a_state_dict_is_sliced_by_the_plan(folder: Path) -> None:
    assert main(["model.onnx", "--budget", "flops=0.5", "--no-verify", "--quiet"]) == 0
    (code,) = [b for b in blocks("python") if "def indices" in b]
    dense = prunec.load("model.onnx").graph.initializers
    state: dict[str, Any] = {n: v.const_value.numpy() for n, v in dense.items() if v.const_value}
    exec(
        compile(code.replace("open(", "_open("), "README", "exec"),
        {"state": state, "_open": opened},
    )
    pruned = prunec.load("model.pruned.onnx").graph.initializers
    for name, value in pruned.items():
        if name in state and value.const_value is not None:
            np.testing.assert_array_equal(state[name], value.const_value.numpy())


class opened:
    """A file that json.load reads."""

    def __init__(self, name: str) -> None:
        self.text = Path(name).read_text()

    def read(self) -> str:
        return self.text


def test_the_torch_view_is_trained_and_written(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    (code,) = [b for b in blocks("python") if "prunec.torch_view" in b]
    digits = np.load(IMAGES)
    given = {name: torch.from_numpy(digits[name][:8]) for name in ("image", "label")}
    exec(
        compile(code, "README", "exec"),
        {"images": given["image"].float(), "labels": given["label"].long()},
    )
    dense, trained = (prunec.load(name).graph for name in ("model.onnx", "trained.onnx"))
    assert [node.op_type for node in trained] == [node.op_type for node in dense]
    before, after = (g.initializers["head.weight"].const_value for g in (dense, trained))
    assert before is not None and after is not None
    assert (before.numpy() != after.numpy()).any()


def test_a_module_is_sliced_by_a_plan() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    (code,) = [b for b in blocks("python") if "apply_to(" in b]
    nn = torch.nn
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()
    space = {"prunec": prunec, "module": module, "image": torch.randn(1, 3, 8, 8)}
    exec(compile(code, "README", "exec"), space)
    assert space["small"][0].out_channels == space["small"][2].in_channels < 8


def test_the_metric_counts(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    (code,) = [b for b in blocks("python") if "def recall" in b]
    Path("judge.py").write_text(code)
    digits = np.load(IMAGES)
    found = prunec.evaluate("model.onnx", IMAGES, "judge.py:recall")
    assert found.samples == len(digits["label"])
    assert 0.9 < (found.first[1] or 0) <= 1


def test_the_python_example_runs(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    code = next(b for b in blocks("python") if "prunec.prune(" in b)
    lines = [line for line in code.splitlines() if "prunec.load(module" not in line]
    exec(compile("\n".join(lines), "README", "exec"), {})
    assert Path("model.pruned.onnx").stat().st_size < Path("model.onnx").stat().st_size


def test_the_example_of_a_sweep_runs(folder: Path) -> None:
    (code,) = [b for b in blocks("python") if "prunec.sweep(" in b]
    pytest.importorskip("joblib")
    space: dict[str, Any] = {}
    exec(compile(code, "README", "exec"), space)
    assert [p.label for p in space["found"].points][::3] == ["flops=0.9", "flops=0.3"]


def test_the_configuration_file_is_accepted(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    text = next(block for block in blocks("toml") if "budget" in block)
    tomllib.loads(text)
    text = text.replace("calibration.npz", os.fspath(IMAGES)).replace("'^layer1", "'^stage1")
    text = text.replace("'^stage1\\.'", "'^stage1'")
    Path("prunec.toml").write_text(text)
    assert main(["model.onnx", "--config", "prunec.toml", "--no-verify", "--quiet"]) == 0


def test_the_table_of_reasons_is_that_of_the_compiler() -> None:
    rows = [f"| `{r.value}` | {b.meaning} | {b.remedy} |" for r, b in BARRIERS.items()]
    head = ["| reason | what holds the channels | what would free them |", "|---|---|---|"]
    expected = "\n".join([*head, *rows])
    assert expected in README.read_text(), f"the README needs this table:\n{expected}"


def test_a_rule_of_the_users_lets_channels_through(folder: Path) -> None:
    (code,) = [b for b in blocks("python") if "RULES =" in b]
    Path("mix_rules.py").write_text(code)
    save(mixed(), folder / "mixed.onnx")
    assert not prunec.inspect("mixed.onnx").edges
    assert len(prunec.inspect("mixed.onnx", rules="mix_rules.py").edges) == 2
    words = ["mixed.onnx", "--budget", "flops=0.5", "--rules", "mix_rules.py", "--no-verify"]
    assert main([*words, "--quiet"]) == 0
    plan = prunec.Plan.from_json(Path("mixed.plan.json").read_text())
    report = prunec.verify("mixed.onnx", "mixed.pruned.onnx", plan, rules="mix_rules.py")
    assert next(c for c in report.checks if c.name == "cost").passed
