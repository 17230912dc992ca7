"""Grouped convolutions from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tiny import array, files, model_of, prunec, save

import prunec as package
from prunec.passes.regroup.choosers import CHOOSERS
from prunec.passes.regroup.folds import FOLDS
from prunec.passes.regroup.permutations import PERMUTATIONS
from prunec.passes.regroup.scores import KERNEL_SCORES
from prunec.tools.options import COMPONENTS

pytest.importorskip("onnxruntime")
Capture = pytest.CaptureFixture[str]


def convs(second: np.ndarray | None = None) -> onnx.ModelProto:
    """Three convolutions with Relus between, of which the first can have no groups."""
    node = helper.make_node
    return model_of(
        [
            node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], name="first"),
            node("Relu", ["c1"], ["r1"], name="relu1"),
            node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], name="second"),
            node("Relu", ["c2"], ["r2"], name="relu2"),
            node("Conv", ["r2", "w3"], ["y"], name="third"),
        ],
        {
            "w1": array(8, 3, 3, 3, seed=1),
            "b1": array(8, seed=2),
            "w2": array(16, 8, 3, 3, seed=3) if second is None else second,
            "b2": array(16, seed=4),
            "w3": array(8, 16, 1, 1, seed=5),
        },
        shape=("N", 3, 6, 6),
        out=("N", 8, 6, 6),
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(convs(), tmp_path / "net.onnx")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "calib.npy"
    np.save(path, array(40, 3, 6, 6))
    return path


def groups_in(path: Path) -> dict[str, int]:
    found = {}
    for node in onnx.load(path).graph.node:
        if node.op_type == "Conv":
            given = {a.name: a.i for a in node.attribute}
            found[node.name] = given.get("group", 1)
    return found


def plan_of(model: Path) -> dict[str, Any]:
    found = json.loads((model.parent / "net.plan.json").read_text())
    assert isinstance(found, dict)
    return found


def test_every_component_is_named() -> None:
    assert COMPONENTS["permutations"] == tuple(PERMUTATIONS)
    assert COMPONENTS["kernel scores"] == tuple(KERNEL_SCORES)
    assert COMPONENTS["folds"] == tuple(FOLDS)
    assert COMPONENTS["ways to choose groups"] == tuple(CHOOSERS)


def test_one_number_for_all_needs_no_budget(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, model, "--group-conv", 4)
    assert done.code == 0, done.err
    out = model.parent / "net.pruned.onnx"
    assert groups_in(out) == {"first": 1, "second": 4, "third": 4}
    assert "2 grouped convolutions, 0 Gathers left" in done.out
    assert "masked == grouped" in done.out and "FAILED" not in done.out
    assert "w1: stays dense: 4 does not divide 8 outputs and 3 inputs" in done.out
    assert "objective" not in done.out
    plan = plan_of(model)
    assert plan["budget"] == {}
    assert set(plan["groups"]) == {"w2", "w3"}
    assert plan["costs"]["params"]["pruned"] == 8 * 27 + 8 + 16 * 8 * 9 // 4 + 16 + 8 * 16 // 4


def test_a_plan_gives_the_same_bytes_again(model: Path, capsys: Capture) -> None:
    assert prunec(capsys, model, "--group-conv", 2).code == 0
    first = (model.parent / "net.pruned.onnx").read_bytes()
    text = (model.parent / "net.plan.json").read_text()
    assert prunec(capsys, "plan", model, "--group-conv", 2).code == 0
    assert (model.parent / "net.plan.json").read_text() == text
    again = model.parent / "again.onnx"
    done = prunec(capsys, "apply", model, model.parent / "net.plan.json", "-o", again)
    assert done.code == 0, done.err
    assert again.read_bytes() == first
    assert "2 grouped convolutions" in done.out


def test_grouped_models_are_verified_from_the_plan(model: Path, capsys: Capture) -> None:
    assert prunec(capsys, model, "--group-conv", 2).code == 0
    out, plan = (model.parent / name for name in ("net.pruned.onnx", "net.plan.json"))
    done = prunec(capsys, "verify", model, out, plan)
    assert (done.code, "NOT VERIFIED" in done.out) == (0, False), done.out
    proto = onnx.load(out)
    for tensor in proto.graph.initializer:
        if tensor.name == "w2":
            tensor.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(tensor), "w2"))
    out.write_bytes(proto.SerializeToString())
    done = prunec(capsys, "verify", model, out, plan)
    assert done.code == 4
    assert "--retrained" in done.out
    assert prunec(capsys, "verify", model, out, plan, "--retrained").code == 0


def test_auto_chooses_within_the_budget(model: Path, capsys: Capture) -> None:
    words = (model, "--group-conv", "auto", "--no-channels", "--budget", "flops=0.5", "--json")
    done = prunec(capsys, *words)
    assert done.code == 0, done.err
    body = json.loads(done.out)
    assert body["costs"]["flops"]["ratio"] <= 0.5
    assert body["channels_removed"] == 0
    layers = body["grouped"]["layers"]
    assert layers and all(0 < x["kept"] < 1 and x["groups"] > 1 for x in layers)
    assert body["grouped"]["gathers_left"] == []
    assert body["verification"]["passed"]


def test_a_number_and_channels_share_the_budget(model: Path, capsys: Capture) -> None:
    words = (model, "--group-conv", 2, "--budget", "flops=0.3", "--align", 1, "--json")
    body = json.loads(prunec(capsys, *words).out)
    assert body["costs"]["flops"]["ratio"] <= 0.3
    assert body["channels_removed"] > 0
    kept = [n for x in body["grouped"]["layers"] for n in (x["outputs"], x["inputs"])]
    assert [n % 2 for n in kept] == [0] * 4


def test_groups_by_name_and_by_width(model: Path, capsys: Capture) -> None:
    table = model.parent / "groups.json"
    table.write_text(json.dumps({"module.second": {"G": 2, "F": 16, "C": 8}, "third": 8}))
    assert prunec(capsys, model, "--group-conv", table).code == 0
    out = model.parent / "net.pruned.onnx"
    assert groups_in(out) == {"first": 1, "second": 2, "third": 8}
    config = model.parent / "prunec.toml"
    config.write_text('group-conv = "groups.json"\nverify = false\n')
    assert prunec(capsys, model, "--config", config).code == 0
    assert groups_in(out) == {"first": 1, "second": 2, "third": 8}
    assert prunec(capsys, model, "--max-per-group", 4).code == 0
    assert groups_in(out) == {"first": 1, "second": 4, "third": 4}


def test_how_channels_are_put_into_groups(model: Path, capsys: Capture) -> None:
    found = {}
    for words in (
        ("--group-perm", "same"),
        ("--group-perm", "grps{iters=1}"),
        ("--group-fold", "free"),
        ("--group-fold", "joint{gathers=1}"),
        ("--group-fold", "joint"),
    ):
        done = prunec(capsys, model, "--group-conv", 2, *words, "--json")
        assert done.code == 0, done.err
        found[words[1]] = json.loads(done.out)["grouped"]
    assert found["free"]["mean_kept"] >= found["grps{iters=1}"]["mean_kept"]
    assert found["free"]["mean_kept"] >= found["joint"]["mean_kept"]
    assert found["joint"]["gathers_left"] == []
    assert len(found["joint{gathers=1}"]["gathers_left"]) <= 1
    assert found["joint{gathers=1}"]["mean_kept"] >= found["joint"]["mean_kept"]
    assert plan_of(model)["options"]["grouping"]["folded"] == "joint"


def test_scores_of_kernels_may_need_data(model: Path, data: Path, capsys: Capture) -> None:
    words = (model, "--group-conv", 2, "--group-score", "activation")
    assert "--data" in prunec(capsys, *words).complaint()
    done = prunec(capsys, *words, "--data", data, "--recover", "none")
    assert done.code == 0, done.err
    assert plan_of(model)["options"]["grouping"]["score"] == "activation"


def test_recovery_respects_the_groups(model: Path, data: Path, capsys: Capture) -> None:
    done = prunec(capsys, model, "--group-conv", 2, "--data", data, "--json")
    assert done.code == 0, done.err
    body = json.loads(done.out)
    layers = {x["layer"]: x for x in body["recovery"]["layers"]}
    assert all(layers[name]["after"] < layers[name]["before"] for name in ("second", "third"))
    assert body["verification"]["passed"]
    out, plan = (model.parent / name for name in ("net.pruned.onnx", "net.plan.json"))
    assert groups_in(out)["second"] == 2
    assert prunec(capsys, "verify", model, out, plan).code == 0


def masked_weight() -> np.ndarray:
    weight, ids = array(16, 8, 3, 3, seed=3), np.arange(16) % 4
    weight[ids[:, None] != np.arange(8)[None, :] % 4] = 0
    return weight


def test_groups_that_are_there_are_detected(tmp_path: Path, capsys: Capture) -> None:
    model = save(convs(masked_weight()), tmp_path / "net.onnx")
    done = prunec(capsys, model, "--detect-groups")
    assert done.code == 0, done.err
    out = tmp_path / "net.pruned.onnx"
    assert groups_in(out)["second"] == 4
    x = array(2, 3, 6, 6)
    from prunec.runtime.session import make_session

    a, b = (make_session(path).run({"x": x})[0] for path in (model, out))
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


def test_dead_channels_are_detected(tmp_path: Path, capsys: Capture) -> None:
    proto = convs()
    for tensor in proto.graph.initializer:
        if tensor.name in ("w2", "b2"):
            contents = numpy_helper.to_array(tensor).copy()
            contents[[1, 5]] = 0
            tensor.CopyFrom(numpy_helper.from_array(contents, tensor.name))
    model = save(proto, tmp_path / "net.onnx")
    done = prunec(capsys, model, "--detect-dead", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["channels_removed"] == 2
    x = array(2, 3, 6, 6)
    from prunec.runtime.session import make_session

    a, b = (make_session(p).run({"x": x})[0] for p in (model, tmp_path / "net.pruned.onnx"))
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--group-conv", 0), "at least 1"),
        (("--group-conv", -2), "at least 1"),
        (("--group-conv", 3), "suits no convolution of this model; numbers that divide some"),
        (("--group-conv", "none.json"), "No such file"),
        (("--group-conv", "bad.json"), "is not JSON"),
        (("--group-conv", "other.json"), "no convolution has the name 'layer1.0.conv1'"),
        (("--group-conv", "odd.json"), "'second' has 16 outputs and 8 inputs, which 3 groups"),
        (("--group-conv", "auto"), "chooses under a budget"),
        (("--group-conv", "auto{x=1}", "--budget", "flops=0.5"), "no option 'x'"),
        (("--group-conv", 2, "--max-per-group", 4), "both say how many groups"),
        (("--max-per-group", 0), "at least 1"),
        (("--group-conv", 2, "--group-perm", "grp"), "did you mean 'grps'"),
        (("--group-conv", 2, "--group-perm", "grps", "--group-fold", "joint"), "leave one"),
        (("--group-conv", 2, "--group-fold", "joined"), "did you mean 'joint'"),
        (("--group-conv", 2, "--group-fold", "joint{gathers=-1}"), "must not be below 0"),
        (("--group-conv", 2, "--group-score", "norm"), "unknown kernel score 'norm'"),
        (("--group-conv", 2, "--min-group-width", 99), "rule some out"),
        (("--group-conv", 2, "--detect-dead"), "detect first"),
        (("--group-conv", 2, "--schedule", "layerwise", "--budget", "flops=0.5"), "--schedule"),
    ],
)
def test_bad_input_is_one_line(
    model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, words: Any, part: str
) -> None:
    monkeypatch.chdir(model.parent)
    Path("bad.json").write_text("{second: 2}")
    Path("other.json").write_text('{"layer1.0.conv1": 2}')
    Path("odd.json").write_text('{"second": 3}')
    before = files(model.parent)
    done = prunec(capsys, model, *words)
    assert part in done.complaint()
    assert done.code == 2
    assert files(model.parent) == before


def test_plans_that_do_not_fit_are_refused(model: Path, capsys: Capture) -> None:
    assert prunec(capsys, "plan", model, "--group-conv", 2).code == 0
    path = model.parent / "net.plan.json"
    good = plan_of(model)
    for change, part in (
        (lambda p: p["groups"].update(w9=p["groups"].pop("w2")), "$.groups['w9']"),
        (lambda p: p["costs"]["flops"].update(pruned=1), "$.costs['flops']"),
        (lambda p: p["groups"]["w2"]["inputs"].update(size=9), "$.groups['w2']"),
        (lambda p: p["groups"]["w2"]["inputs"].update(size=10**15), "no axis has"),
    ):
        plan = json.loads(json.dumps(good))
        change(plan)
        path.write_text(json.dumps(plan))
        done = prunec(capsys, "apply", model, path)
        assert part in done.complaint()
        assert done.code == 1


def test_explain_and_diff_speak_of_groups(model: Path, capsys: Capture) -> None:
    one, two = model.parent / "one.json", model.parent / "two.json"
    assert prunec(capsys, "plan", model, "--group-conv", 2, "-o", one).code == 0
    assert prunec(capsys, "plan", model, "--group-conv", 4, "-o", two).code == 0
    done = prunec(capsys, "explain", model, "w2:0", "--plan", one)
    assert "the plan puts them into 2 groups" in done.out and "read inputs" in done.out
    assert "no groups" in prunec(capsys, "explain", model, "w1:0", "--plan", one).out
    body = json.loads(prunec(capsys, "diff", one, two, "--json").out)
    assert body["groups"]["w2"]["a"] == 2 and body["groups"]["w2"]["b"] == 4
    assert "pairs of channels that differ" in prunec(capsys, "diff", one, two).out
    assert prunec(capsys, "apply", model, two).code == 0
    done = prunec(capsys, "explain", model.parent / "net.pruned.onnx", "w2:1")
    assert "second has 4 groups" in done.out


def test_a_sweep_with_groups(model: Path, capsys: Capture) -> None:
    words = ("sweep", model, "--budget", "flops=0.6..0.4:0.2", "--group-conv", 2, "--align", 1)
    done = prunec(capsys, *words, "--verify", "--models", "--no-plot", "--json")
    assert done.code == 0, done.err
    folder = model.parent / "net.sweep"
    for point in json.loads(done.out)["points"]:
        assert point["verification"]["passed"]
        assert groups_in(folder / point["model"])["second"] == 2


def test_the_same_from_python(model: Path) -> None:
    found = package.prune(model, grouping=2)
    assert {x.weight: x.groups for x in found.report.grouped} == {"w2": 2, "w3": 2}
    assert found.report.gathers == ()
    plan = package.plan(model, "", package.Options(grouping=package.Grouping(conv=2)))
    assert plan.to_json() == found.plan.to_json()
    assert package.verify(model, found.to_proto(), plan).passed
    with pytest.raises(package.PrunecError, match="--budget is required"):
        package.prune(model)
