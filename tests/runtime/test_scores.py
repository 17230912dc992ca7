"""Scores in a file: they come back exactly, for the same model and the same groups only."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from logged import LoggedMagnitude, calls

import prunec
from prunec.compiler.errors import OutputError, ScoresError, UsageError
from prunec.compiler.freedom import Freedom
from prunec.passes.criteria.activation import Activation
from prunec.passes.criteria.magnitude import Magnitude
from prunec.passes.options import Options
from prunec.passes.pairwise.objectives import Pairwise
from prunec.passes.solvers.greedy import Greedy
from prunec.passes.worth.sum import Sum
from prunec.runtime.compile import Settings, plan_for, silent
from prunec.runtime.scores import Scores, compute, read_scores
from prunec.runtime.subject import Subject, open_model
from prunec.runtime.sweep.stages import SweepSettings
from prunec.tools.demo import DIGITS


@pytest.fixture(scope="module")
def subject() -> Subject:
    return open_model(DIGITS)


def computed(subject: Subject, criterion: Magnitude | None = None) -> Scores:
    options = Options(criterion or Magnitude(p=1))
    return compute(subject, options, Settings(), silent)[1]


@pytest.mark.parametrize("name", ["s.json", "s.npz"])
def test_what_is_written_comes_back(subject: Subject, tmp_path: Path, name: str) -> None:
    made = computed(subject)
    made.save(tmp_path / name)
    found = read_scores(tmp_path / name)
    assert found.sha256 == made.sha256
    assert found.criterion == "magnitude{p=1}"
    want = Magnitude(p=1)(subject.model, subject.graph, None)
    np.testing.assert_array_equal(found.of(subject, subject.graph), want)
    made.save(tmp_path / f"again-{name}")
    assert (tmp_path / name).read_bytes() == (tmp_path / f"again-{name}").read_bytes()


def test_a_plan_from_a_file_is_the_plan_of_its_criterion(subject: Subject, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    options = Options(Magnitude(p=1), Greedy())
    saved = plan_for(subject, "flops=0.7", options, Settings(save_scores=path))
    for budget in ("flops=0.7", "flops=0.5"):
        direct = plan_for(subject, budget, options, Settings())
        reused = plan_for(subject, budget, Options(solver=Greedy()), Settings(scores=path))
        assert reused.hyperedges == direct.hyperedges
        assert reused.components == direct.components
        assert reused.options["scores"] == read_scores(path).record()
        assert "scores" not in direct.options
    assert saved.hyperedges == plan_for(subject, "flops=0.7", options, Settings()).hyperedges


def test_the_worth_follows_the_criterion_of_the_file(subject: Subject) -> None:
    """Fisher's scores are in one unit, whoever reads them."""
    made = replace(computed(subject), criterion="fisher{samples=8}")
    plan = plan_for(subject, "flops=0.7", Options(), Settings(scores=made))
    assert plan.components["criterion"] == "fisher{samples=8}"
    assert plan.components["worth"] == Sum.name


def test_data_and_samples_are_recorded(model: object, archive: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "s.json"
    made = prunec.scores(model, Activation(), data=str(archive))
    made.save(path)
    body = json.loads(path.read_text())
    assert (body["samples"], body["criterion"]) == (10, "activation")
    assert body["data"]["path"] == str(archive)
    assert body["versions"]["prunec"] == prunec.__version__


def test_a_criterion_runs_once_for_many_budgets(tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = Options(LoggedMagnitude(str(log)))
    settings = Settings(save_scores=tmp_path / "s.json")
    prunec.plan(DIGITS, "flops=0.7", options, settings)
    assert calls(log) == 1
    assert read_scores(tmp_path / "s.json").criterion.startswith("logged{")


def test_a_sweep_takes_them(tmp_path: Path) -> None:
    found = prunec.scores(DIGITS, "magnitude{p=1}")
    options, settings = Options(solver=Greedy()), Settings(scores=found)
    how = SweepSettings(folder=tmp_path / "sweep")
    swept = prunec.sweep(DIGITS, "flops=0.8..0.6:0.2", options, settings, how)
    for point in swept.points:
        assert point.plan is not None
        direct = prunec.plan(DIGITS, point.label, Options(Magnitude(p=1), Greedy()))
        assert point.plan.hyperedges == direct.hyperedges
        assert point.plan.components["criterion"] == "magnitude{p=1}"
        assert point.plan.options["scores"] == found.record()
    # Other scores, other points: what is in the folder is not taken for theirs.
    other = Settings(scores=prunec.scores(DIGITS, "random{seed=3}"))
    again = prunec.sweep(DIGITS, "flops=0.8..0.6:0.2", options, other, how)
    assert all(
        p.plan is not None and p.plan.components["criterion"] == "random{seed=3}"
        for p in again.points
    )


def test_a_sweep_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    prunec.sweep(DIGITS, "flops=0.8..0.6:0.2", Options(solver=Greedy()), Settings(save_scores=path))
    assert read_scores(path).criterion == "magnitude"


def test_scores_of_another_model_are_refused(subject: Subject, model: object) -> None:
    with pytest.raises(ScoresError, match="of another model"):
        prunec.prune(model, "flops=0.9", scores=computed(subject), verify=False)


def test_scores_of_other_weights_are_refused(subject: Subject) -> None:
    trained = onnx.load(DIGITS)
    weight = max(trained.graph.initializer, key=lambda t: len(t.raw_data))
    weight.raw_data = bytes(reversed(weight.raw_data[:4])) + weight.raw_data[4:]
    with pytest.raises(ScoresError, match="with other weights"):
        prunec.prune(trained, "flops=0.9", scores=computed(subject), verify=False)


def test_other_freedom_makes_other_groups(subject: Subject) -> None:
    kernels = open_model(DIGITS, freedom=Freedom(kernels=True))
    found = computed(subject)
    with pytest.raises(ScoresError, match=r"the scores have none: .*--kernel-positions"):
        found.of(kernels, kernels.graph)
    edge = subject.graph.edges[0]
    smaller = replace(found, hyperedges={**found.hyperedges, edge.name: np.ones(edge.size - 1)})
    with pytest.raises(ScoresError, match=f"has {edge.size} channel groups, the scores have"):
        smaller.of(subject, subject.graph)


def rewritten(path: Path, change: Callable[[dict[str, object]], object]) -> Path:
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.update(samples=7), "edited or damaged"),
        (lambda b: b["hyperedges"].popitem(), "edited or damaged"),
        (lambda b: b.update(samples="many"), r"\$\.samples"),
        (lambda b: b.pop("criterion"), r"\$\.criterion"),
        (lambda b: b.update(schema=2), "schema 1"),
        (lambda b: b.update(schema=True), r"\$\.schema"),
        (lambda b: b["hyperedges"].update(x="text"), "list of floats"),
        (lambda b: b["hyperedges"].update(x=[True]), "list of floats"),
        (lambda b: b["hyperedges"].update(x=[-1.0]), "finite and at least 0"),
        (lambda b: b["hyperedges"].update(x=[float("nan")]), "finite and at least 0"),
        (lambda b: b["hyperedges"].update(x=[10**400]), "list of floats"),
    ],
)
def test_edited_files_are_refused(
    subject: Subject, tmp_path: Path, change: Callable[[dict[str, object]], object], message: str
) -> None:
    path = tmp_path / "s.json"
    computed(subject).save(path)
    with pytest.raises(ScoresError, match=message) as error:
        read_scores(rewritten(path, change))
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["s.json", "s.npz"])
@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe", b"[" * 100_000, b"PK\x03\x04"])
def test_broken_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ScoresError, match=name):
        read_scores(path)


def test_cut_arrays_are_refused(subject: Subject, tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    computed(subject).save(path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(ScoresError):
            read_scores(path)


def test_arrays_that_need_pickle_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    np.savez(path, about=np.array([{"a": 1}], object))
    with pytest.raises(ScoresError, match="not a file of scores"):
        read_scores(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match=r"gone.json: No such file"):
        read_scores(tmp_path / "gone.json")


def test_what_contradicts_the_scores_is_refused(subject: Subject, tmp_path: Path) -> None:
    found = computed(subject)
    path = tmp_path / "s.json"
    for options, settings, message in (
        (Options(Activation()), Settings(scores=found), "--score activation: .* magnitude{p=1}"),
        (Options(), Settings(scores=found, save_scores=path), "give one"),
        (Options(objective=Pairwise()), Settings(scores=found), "--scores has no effect"),
        (Options(objective=Pairwise()), Settings(save_scores=path), "--save-scores has no eff"),
    ):
        with pytest.raises(UsageError, match=message):
            plan_for(subject, "flops=0.7", options, settings)
    plan_for(subject, "flops=0.7", Options(Magnitude(p=1)), Settings(scores=found))


def test_a_target_that_cannot_be_written_is_refused_before_scoring(tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = Options(LoggedMagnitude(str(log)))
    for target in (tmp_path, tmp_path / "none" / "s.json"):
        with pytest.raises(OutputError):
            prunec.plan(DIGITS, "flops=0.7", options, Settings(save_scores=target))
    model = tmp_path / "net.onnx"
    model.write_bytes(Path(DIGITS).read_bytes())
    with pytest.raises(OutputError, match="overwrite the input"):
        prunec.plan(model, "flops=0.7", options, Settings(save_scores=model))
    assert not calls(log)
