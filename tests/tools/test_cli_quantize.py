"""``prunec quantize`` and ``--quantize`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from quantised_nets import residual_net
from tiny import files, prunec

from prunec.passes.quantize.recipe import RECIPES
from prunec.tools.cli import main

pytest.importorskip("onnxruntime")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(residual_net(21), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "calib.npy"
    np.save(path, np.random.default_rng(0).normal(size=(24, 3, 6, 6)).astype(np.float32))
    return path


@pytest.fixture(scope="module")
def carried_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, its data and what one main job with a recipe made of it."""
    folder = tmp_path_factory.mktemp("job")
    onnx.save(residual_net(21), folder / "net.onnx")
    data = np.random.default_rng(0).normal(size=(24, 3, 6, 6)).astype(np.float32)
    np.save(folder / "calib.npy", data)
    words = ["--budget", "flops=0.6", "--align", "1", "--recover", "none", "--quantize", "w8a8"]
    assert main([str(folder / "net.onnx"), "--data", str(folder / "calib.npy"), *words]) == 0
    return folder


def kinds(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def test_a_model_is_quantised_beside_itself(model: Path, data: Path, capsys: Capture) -> None:
    done = prunec(capsys, "quantize", model, "w8a8", "--data", data)
    assert done.code == 0, done.err
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds(model.with_name("net.quantised.onnx"))
    for line in ("recipe", "weight bits", "integer kernels  1 QGemm, 1 QLinearAdd", "half"):
        assert line in done.out or line == "half"
    assert "weights rounded" in done.out and "FAILED" not in done.out


def test_json_says_it_all(model: Path, data: Path, capsys: Capture) -> None:
    words = ("quantize", model, "w4a8{last=false}", "--data", data, "--json", "--bench")
    found = json.loads(prunec(capsys, *words).out)
    assert found["recipe"] == "w4a8{last=false}"
    assert found["weight_bits"] == {"4": 792, "32": 40}
    assert found["floats"]["fc"] == "last layer"
    assert found["kernels"]["integer"]["QLinearConv"] == 2
    assert found["file_bytes"]["quantised"] > 0 and found["bench"]["ratios"]
    assert all(check["passed"] for check in found["checks"].values())


def test_nodes_can_stay_float(model: Path, capsys: Capture) -> None:
    words = ("quantize", model, "weights=int8", "--json")
    found = json.loads(prunec(capsys, *words, "--quantize-exclude", "^stem").out)
    assert set(found["bits"]) == {"block.w", "fc.w"}
    assert found["floats"]["stem"] == "excluded by '^stem'"


def test_a_file_gives_bits_per_pattern(model: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "mixed.toml").write_text(
        'recipe = "weights=int8"\n[rules."block"]\nweights = 4\n[rules."fc"]\nskip = true\n'
    )
    found = json.loads(prunec(capsys, "quantize", model, tmp_path / "mixed.toml", "--json").out)
    assert found["bits"] == {"stem.w": 8, "block.w": 4}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("w8a8",), "needs calibration data"),
        (("w8b8",), "did you mean 'w8a8'"),
        (("weights=int8", "--quantize-exclude", "("), "no regular expression"),
        (("weights=int8", "--quantize-exclude", "."), "nothing can be quantised"),
        (("none.toml",), "none.toml: cannot be read"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(
    words: tuple[str, ...], said: str, model: Path, capsys: Capture
) -> None:
    before = files(model.parent)
    done = prunec(capsys, "quantize", model, *words)
    assert done.code == 2 and said in done.complaint()
    assert files(model.parent) == before


def test_the_main_job_quantises_last_and_the_plan_says_so(
    model: Path, data: Path, capsys: Capture
) -> None:
    words = (model, "--budget", "flops=0.6", "--align", 1, "--data", data, "--quantize", "w8a8")
    done = prunec(capsys, *words, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["quantised"]["kernels"]["integer"]["QLinearConv"] == 2
    assert "same but for Q and DQ" in found["verification"]["checks"]
    plan = json.loads((model.parent / "net.plan.json").read_text())
    assert plan["components"]["quantize"] == "w8a8"
    assert plan["bits"] == {"stem.w": 8, "block.w": 8, "fc.w": 8}
    assert plan["costs"]["bytes"]["pruned"] < plan["costs"]["bytes"]["dense"] / 2
    pruned = model.with_name("net.pruned.onnx")
    proof = prunec(capsys, "verify", model, pruned, model.parent / "net.plan.json")
    assert proof.code == 0 and "same but for Q and DQ" in proof.out
    again = model.with_name("again.onnx")
    words = ("apply", model, model.parent / "net.plan.json", "--data", data, "-o", again)
    assert prunec(capsys, *words).code == 0
    assert again.read_bytes() == pruned.read_bytes()


def test_a_quantised_file_with_other_integers_fails(
    carried_out: Path, tmp_path: Path, capsys: Capture
) -> None:
    proto = onnx.load(carried_out / "net.pruned.onnx")
    (codes,) = [t for t in proto.graph.initializer if t.name == "block.w.codes"]
    array = onnx.numpy_helper.to_array(codes) // 2
    codes.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.int8), codes.name))
    onnx.save(proto, tmp_path / "other.onnx")
    words = (carried_out / "net.onnx", tmp_path / "other.onnx", carried_out / "net.plan.json")
    proof = prunec(capsys, "verify", *words)
    assert proof.code == 4 and "steps from the sliced one" in proof.out


def test_without_data_a_plan_is_carried_out_in_float_and_says_so(
    carried_out: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "again.onnx"
    words = (carried_out / "net.onnx", carried_out / "net.plan.json", "-o", out)
    done = prunec(capsys, "apply", *words)
    assert done.code == 0 and "the model is float" in done.out
    assert "QuantizeLinear" not in kinds(out)


def test_a_plan_keeps_what_a_file_said(
    model: Path, data: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "mixed.toml").write_text('recipe = "w8a8"\n[rules."fc"]\nweights = 4\n')
    words = (model, "--budget", "flops=0.6", "--align", 1, "--data", data, "--recover", "none")
    assert prunec(capsys, *words, "--quantize", tmp_path / "mixed.toml").code == 0
    (tmp_path / "mixed.toml").unlink()
    plan = model.parent / "net.plan.json"
    assert json.loads(plan.read_text())["bits"] == {"block.w": 8, "fc.w": 4, "stem.w": 8}
    assert prunec(capsys, "verify", model, model.with_name("net.pruned.onnx"), plan).code == 0
    again = model.with_name("again.onnx")
    words = ("apply", model, plan, "--data", data, "--recover", "none", "-o", again)
    assert prunec(capsys, *words).code == 0
    assert again.read_bytes() == model.with_name("net.pruned.onnx").read_bytes()


def test_help_names_every_recipe(capsys: Capture) -> None:
    shown = " ".join(prunec(capsys, "quantize", "--help").out.split())
    for name in RECIPES:
        assert name in shown


def test_python_does_the_same(model: Path, data: Path) -> None:
    import prunec as package

    done = package.quantise(model, "w8a8", str(data), exclude=["^fc"])
    assert set(done.bits) == {"stem.w", "block.w"}
    result = package.prune(
        model, "flops=0.6", align=1, data=str(data), quantize="w8a8", quantize_exclude=["^fc"]
    )
    assert set(result.plan.bits) == {"stem.w", "block.w"}
    assert result.plan.options["quantize_exclude"] == ["^fc"]
    assert package.verify(model, result.model, result.plan).passed
