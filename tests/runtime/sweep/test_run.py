from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx
import pytest
from logged import Logged, LoggedMagnitude, calls
from onnx import numpy_helper
from tiny import save, two_convs

import prunec
from prunec.compiler.errors import UsageError
from prunec.passes.criteria.bn_scale import BnScale
from prunec.passes.solvers.greedy import Greedy
from prunec.runtime import verify as verifying
from prunec.runtime.bench import BenchResult, Ratio, Timing
from prunec.runtime.compile import Settings, plan_for
from prunec.runtime.data import DataSpec
from prunec.runtime.latency.measure import Effort
from prunec.runtime.latency.session import Task
from prunec.runtime.subject import open_model
from prunec.runtime.sweep import run
from prunec.runtime.sweep.points import State
from prunec.runtime.sweep.stages import absolute
from prunec.tools.demo import DIGITS, IMAGES

BUDGET = "flops=0.8..0.4:0.1"
COUNT = 5
QUICK = prunec.Options(solver=Greedy(), align=8)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "calls"


def logged(log: Path, **more: object) -> prunec.Options:
    return replace(QUICK, solver=Logged(str(log)), **more)


def into(folder: Path, **more: object) -> prunec.SweepSettings:
    return prunec.SweepSettings(folder=folder, **more)


def test_every_point_has_the_plan_that_its_budget_alone_would_give(tmp_path: Path) -> None:
    options = prunec.Options(criterion=BnScale(), align=8)
    found = prunec.sweep(DIGITS, "flops=0.8|0.45,params=0.7", options, None, into(tmp_path / "s"))
    subject = open_model(DIGITS)
    for point in found.points:
        alone = plan_for(subject, point.label, options, Settings())
        assert (tmp_path / "s" / f"{point.label}.plan.json").read_text() == alone.to_json()


def test_the_model_is_scored_once(log: Path) -> None:
    options = replace(QUICK, criterion=LoggedMagnitude(str(log)))
    found = prunec.sweep(DIGITS, BUDGET, options)
    assert [point.state for point in found.points] == [State.DONE] * COUNT
    assert calls(log) == 1


def test_losses_grow_as_budgets_shrink_and_start_at_nothing() -> None:
    found = prunec.sweep(DIGITS, "flops=1|0.8|0.6|0.4|0.3", QUICK)
    losses = [point.predicted_loss for point in found.points]
    assert losses[0] == 0
    assert losses == sorted(losses)
    plan = found.points[-1].plan
    assert losses[-1] == 1 - plan.objective / found.points[0].plan.objective


def test_a_budget_out_of_reach_is_a_point_and_stops_nothing(tmp_path: Path) -> None:
    budget = "flops=0.8|0.0001|0.5"
    found = prunec.sweep(DIGITS, budget, QUICK, None, into(tmp_path / "s"))
    assert [p.state for p in found.points] == [State.DONE, State.INFEASIBLE, State.DONE]
    assert "smallest reachable value" in found.points[1].message
    assert "held there by" in found.points[1].message
    assert 1 not in found.front
    again = prunec.sweep(DIGITS, budget, QUICK, None, into(tmp_path / "s"))
    assert again.points[1].message == found.points[1].message


def test_a_gap_that_is_not_proven_is_a_point_and_is_tried_again(tmp_path: Path, log: Path) -> None:
    options = logged(log, max_gap=0.0)
    for times in (1, 2):
        found = prunec.sweep(DIGITS, "flops=0.5|0.4", options, None, into(tmp_path / "s"))
        assert {p.state for p in found.points} == {State.UNPROVEN}
        assert found.front == ()
        assert calls(log) == 2 * times


def test_what_is_known_is_not_computed_again(tmp_path: Path, log: Path) -> None:
    options = logged(log, criterion=LoggedMagnitude(str(tmp_path / "scored")))
    first = prunec.sweep(DIGITS, BUDGET, options, None, into(tmp_path / "s"))
    text = (tmp_path / "s/sweep.json").read_text()
    again = prunec.sweep(DIGITS, BUDGET, options, None, into(tmp_path / "s"))
    assert (calls(log), calls(tmp_path / "scored")) == (COUNT, 1)
    assert again.to_dict() == first.to_dict()
    assert (tmp_path / "s/sweep.json").read_text() == text
    # A wider range needs the new points only.
    prunec.sweep(DIGITS, "flops=0.9..0.4:0.1", options, None, into(tmp_path / "s"))
    assert calls(log) == COUNT + 1


@pytest.mark.parametrize("fault", ["edited plan", "lost plan", "torn record", "lost record"])
def test_a_point_that_is_damaged_is_decided_again(tmp_path: Path, log: Path, fault: str) -> None:
    folder = tmp_path / "s"
    prunec.sweep(DIGITS, BUDGET, logged(log), None, into(folder))
    kind, what = fault.split()
    path = folder / ("flops=0.6.plan.json" if what == "plan" else "points/flops=0.6.json")
    text = path.read_text()
    if kind == "lost":
        path.unlink()
    else:
        path.write_text(text.replace("flops", "flips", 1) if kind == "edited" else text[:40])
    prunec.sweep(DIGITS, BUDGET, logged(log), None, into(folder))
    assert calls(log) == COUNT + 1
    assert path.read_text() == text


@pytest.mark.parametrize("change", [{"align": 4}, {"keep": ("stem",)}, {"exponent": 0.5}])
def test_other_options_are_another_sweep(
    tmp_path: Path, log: Path, change: dict[str, object]
) -> None:
    prunec.sweep(DIGITS, BUDGET, logged(log), None, into(tmp_path / "s"))
    name = prunec.inspect(DIGITS).edges[0].name.split(".")[0]
    change = {"keep": (name,)} if "keep" in change else change
    prunec.sweep(DIGITS, BUDGET, replace(logged(log), **change), None, into(tmp_path / "s"))
    assert calls(log) == 2 * COUNT


def test_other_weights_are_another_sweep(tmp_path: Path, log: Path) -> None:
    model = onnx.load(DIGITS)
    prunec.sweep(model, BUDGET, logged(log), None, into(tmp_path / "s"))
    prunec.sweep(model, BUDGET, logged(log), None, into(tmp_path / "s"))
    assert calls(log) == COUNT
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim == 4:
            tensor.CopyFrom(numpy_helper.from_array(array * 2, tensor.name))
            break
    prunec.sweep(model, BUDGET, logged(log), None, into(tmp_path / "s"))
    assert calls(log) == 2 * COUNT


SCRIPT = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from logged import Logged

import prunec
from prunec.tools.demo import DIGITS

options = prunec.Options(solver=Logged(sys.argv[2], pause=0.25), align=8)
prunec.sweep(DIGITS, sys.argv[4], options, None, prunec.SweepSettings(Path(sys.argv[3])))
"""


def test_a_killed_run_loses_the_point_under_way_and_no_other(tmp_path: Path, log: Path) -> None:
    folder = tmp_path / "s"
    words = [str(Path(__file__).parents[1]), str(log), str(folder), BUDGET]
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, *words])
    try:
        deadline = time.monotonic() + 60
        while len(list(folder.glob("points/*.json"))) < 1:
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline, "no point in a minute"
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    done, before = len(list(folder.glob("points/*.json"))), calls(log)
    assert done < COUNT
    assert before <= done + 1
    assert not (folder / "sweep.json").exists()
    options = prunec.Options(solver=Logged(str(log), pause=0.25), align=8)
    found = prunec.sweep(DIGITS, BUDGET, options, None, into(folder))
    assert calls(log) - before == COUNT - done
    fresh = prunec.sweep(DIGITS, BUDGET, options, None, into(tmp_path / "fresh"))
    assert found.to_dict() == fresh.to_dict()
    assert (folder / "sweep.json").read_bytes() == (tmp_path / "fresh/sweep.json").read_bytes()


def test_accuracy_decides_the_front_where_it_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    settings = Settings(data=DataSpec(str(IMAGES)))
    options = replace(QUICK, criterion=BnScale())
    found = prunec.sweep(DIGITS, "flops=0.6|0.45|0.3", options, settings, into(tmp_path / "s"))
    single = prunec.prune(
        DIGITS, "flops=0.45", score="bn_scale", solver="greedy", align=8, data=str(IMAGES),
        verify=False,
    )  # fmt: skip
    assert (found.dense_accuracy, found.points[1].accuracy) == single.report.accuracy
    assert found.measured
    losses = [found.points[k].loss(found.dense_accuracy) for k in found.front]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == found.dense_accuracy.top1 - found.points[found.front[0]].accuracy.top1


def test_accuracy_is_measured_for_points_that_lack_it_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    from prunec.runtime import accuracy as measuring

    measured, real = [], measuring.accuracy
    monkeypatch.setattr(
        measuring, "accuracy", lambda *a, **k: (measured.append(1), real(*a, **k))[1]
    )
    settings = Settings(data=DataSpec(str(IMAGES), limit=64))
    prunec.sweep(DIGITS, "flops=0.6|0.5", QUICK, None, into(tmp_path / "s"))
    assert measured == []
    for count in (3, 3):  # two points and the dense model, then nothing
        prunec.sweep(DIGITS, "flops=0.6|0.5", QUICK, settings, into(tmp_path / "s"))
        assert len(measured) == count
    prunec.sweep(DIGITS, "flops=0.6|0.5|0.4", QUICK, settings, into(tmp_path / "s"))
    assert len(measured) == 4


def test_models_of_a_sweep_are_recovered_as_in_the_main_job(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    data, folder = DataSpec(str(IMAGES), limit=64), tmp_path / "s"
    settings = Settings(data=data)
    budget = "flops=0.9|0.4"
    _, point = prunec.sweep(DIGITS, budget, QUICK, settings, into(folder, models=True)).points
    single = prunec.prune(DIGITS, "flops=0.4", solver="greedy", align=8, data=data)
    single.save(tmp_path / "single.onnx")
    assert (folder / point.model).read_bytes() == (tmp_path / "single.onnx").read_bytes()
    assert (folder / "flops=0.4.plan.json").read_text() == single.plan.to_json()
    assert "recovery" in point.verification["checks"]
    plain = replace(settings, recover="none")
    _, other = prunec.sweep(DIGITS, budget, QUICK, plain, into(folder)).points
    assert "recovery" not in other.plan.components
    assert other.accuracy != point.accuracy
    assert not (folder / "flops=0.4.pruned.onnx").exists()  # it was not what the plan says by now


def test_another_recovery_decides_nothing_again(tmp_path: Path, log: Path) -> None:
    pytest.importorskip("onnxruntime")
    settings = Settings(data=DataSpec(str(IMAGES), limit=64))
    points = []
    for recover in ("bias", "none", "bias"):
        own = replace(settings, recover=recover)
        found = prunec.sweep(DIGITS, "flops=0.9|0.4", logged(log), own, into(tmp_path / "s"))
        points.append(found.points[1])
    assert calls(log) == 2
    assert points[0].accuracy == points[2].accuracy != points[1].accuracy
    assert [p.plan.components.get("recovery", "") for p in points] == ["bias", "", "bias"]


def test_models_that_are_written_are_proven_and_points_where_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    found = prunec.sweep(DIGITS, "flops=0.6|0.5", QUICK, None, into(tmp_path / "a", models=True))
    for point in found.points:
        assert point.verification["passed"]
        plan = prunec.Plan.from_json((tmp_path / "a" / f"{point.label}.plan.json").read_text())
        assert prunec.verify(DIGITS, tmp_path / "a" / point.model, plan).passed
    found = prunec.sweep(DIGITS, "flops=0.6|0.5", QUICK, None, into(tmp_path / "b", prove=True))
    assert all(p.verification["passed"] and p.model is None for p in found.points)
    quick = prunec.sweep(DIGITS, "flops=0.6|0.5", QUICK, None, into(tmp_path / "b"))
    assert all(p.verification is None for p in quick.points)


def test_the_model_of_another_plan_does_not_stay(tmp_path: Path) -> None:
    settings = Settings(verify=False)
    how = into(tmp_path, models=True)
    prunec.sweep(DIGITS, "flops=0.6|0.5", QUICK, settings, how)
    assert len(list(tmp_path.glob("*.pruned.onnx"))) == 2
    own = tmp_path / "mine.pruned.onnx"
    own.touch()
    prunec.sweep(DIGITS, "flops=0.6|0.5", replace(QUICK, align=4), settings, into(tmp_path))
    assert list(tmp_path.glob("*.pruned.onnx")) == [own]
    assert len(list(tmp_path.glob("*.plan.json"))) == 2


def test_a_point_whose_proof_fails_has_no_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    wrong = verifying.Verification((verifying.Check("cost", False, "made up"),), None, 0.0)
    monkeypatch.setattr(verifying, "verify", lambda *_, **__: wrong)
    found = prunec.sweep(DIGITS, "flops=0.6|0.5", QUICK, None, into(tmp_path, prove=True))
    assert {p.state for p in found.points} == {State.WRONG}
    assert list(tmp_path.glob("*.plan.json")) == list(tmp_path.glob("points/*")) == []
    assert found.front == ()
    assert "made up" in found.points[0].message


def test_latency_is_measured_once_per_point_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    from prunec.runtime import bench

    count: list[int] = []

    def fake(paths: list[Path], **_: object) -> BenchResult:
        count.append(1)
        timings = tuple(Timing(str(p), 1, 2.0 - k, 1.0, (), 1, {}) for k, p in enumerate(paths))
        return BenchResult("cpu", "", 1, 5, timings, (Ratio(str(paths[1]), 2.0, 1.9, 2.1),))

    monkeypatch.setattr(bench, "bench", fake)
    settings = Settings(bench=True)
    for _ in range(2):
        found = prunec.sweep(
            DIGITS, "flops=0.6|0.5", QUICK, settings, into(tmp_path / "s", against="time")
        )
        assert len(count) == 2
    assert found.points[0].latency.speedup == 2.0
    assert found.points[0].cost("time") == 1.0
    assert len(found.front) == 1  # the same time for both: the smaller loss wins
    unasked = prunec.sweep(DIGITS, "flops=0.6|0.5", QUICK, None, into(tmp_path / "s"))
    assert unasked.points[0].latency is None
    # Another number of threads is another measurement.
    other = Settings(bench=True, threads=2)
    prunec.sweep(DIGITS, "flops=0.6|0.5", QUICK, other, into(tmp_path / "s"))
    assert len(count) == 4


def test_latency_is_profiled_once_into_the_folder(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(run, "Task", partial(Task, effort=Effort(models=8, rounds=2, passes=1)))
    model = save(two_convs(), tmp_path / "net.onnx")
    options = prunec.Options(solver=Logged(str(log)), align=4)
    budget, folder = "latency=0.999|0.99", tmp_path / "s"
    first = prunec.sweep(model, budget, options, None, into(folder))
    (path,) = folder.glob("*.profile.json")
    count, profile = calls(log), path.read_bytes()
    again = prunec.sweep(model, budget, options, None, into(folder))
    assert (calls(log), path.read_bytes()) == (count, profile)
    assert again.to_dict() == first.to_dict()
    assert first.against == "latency"


def test_the_knee_is_written_and_proven(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    options = replace(QUICK, criterion=BnScale())
    found = prunec.sweep(
        DIGITS, "flops=0.9..0.3:0.1", options, None, into(tmp_path / "s", knee=True)
    )
    assert found.knee is not None
    point = found.points[found.knee]
    assert point.verification["passed"]
    assert [p.name for p in (tmp_path / "s").glob("*.onnx")] == [point.model]
    body = json.loads((tmp_path / "s/sweep.json").read_text())
    assert body["knee"] == point.label


def test_workers_get_paths_that_hold_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.npz").touch()
    Path("load.py").touch()
    assert absolute("data.npz") == str(tmp_path.resolve() / "data.npz")
    assert absolute("load.py:test") == f"{tmp_path.resolve() / 'load.py'}:test"
    assert absolute("package.module:test") == "package.module:test"


@pytest.mark.parametrize(
    ("how", "part"),
    [
        ({"against": "flips"}, "did you mean 'flops'"),
        ({"against": "time"}, "needs --bench"),
        ({"models": True}, "need a folder"),
    ],
)
def test_faults(how: dict[str, object], part: str) -> None:
    with pytest.raises(UsageError, match=part):
        prunec.sweep(DIGITS, BUDGET, QUICK, None, prunec.SweepSettings(**how))


def test_unknown_resources_are_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match="unknown resource 'flips'"):
        prunec.sweep(DIGITS, "flips=0.9|0.5", QUICK)
