"""Latency budgets from the profile to the written plan."""

from __future__ import annotations

from pathlib import Path

import pytest
from timed import profile_file, true_latency

import prunec
from prunec.compiler.errors import InfeasibleBudgetError, PlanError, ProfileError, UsageError
from prunec.compiler.plan import Plan
from prunec.passes.options import Options
from prunec.runtime.check_plan import check_plan
from prunec.runtime.compile import Settings, compile_model, plan_for
from prunec.runtime.latency import attach as attaching
from prunec.runtime.latency.attach import Wanted, at_batch, names_latency, positive_levels
from prunec.runtime.latency.attach import with_latency as attach
from prunec.runtime.latency.kernels import Where
from prunec.runtime.latency.measure import Effort
from prunec.runtime.latency.profile import read_profile
from prunec.runtime.subject import Subject, open_model
from prunec.tools.demo import DIGITS

OPTIONS = Options(align=4)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return open_model(DIGITS)


@pytest.fixture(scope="module")
def profile(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "p.json"
    return profile_file(path, subject, positive_levels(subject, OPTIONS))


def test_the_plan_meets_the_latency_and_records_it(subject: Subject, profile: Path) -> None:
    plan = plan_for(subject, "latency=0.6", OPTIONS, Settings(profile=profile))
    dense, pruned = plan.costs["latency"]
    assert pruned <= plan.budget["latency"] == int(0.6 * dense)
    assert true_latency(subject, plan.counts(subject.graph)) == pytest.approx(pruned, rel=0.03)
    assert plan.options["latency"]["model"] == "lut"
    assert plan.options["latency"]["profile"] == "p.json"
    assert Plan.from_json(plan.to_json()) == plan


def test_channels_end_on_blocks_where_the_rest_is_free(subject: Subject, profile: Path) -> None:
    """Both plans have the same MACs; one of them knows that 17 channels cost as much as 32."""
    fast = plan_for(subject, "latency=0.6", OPTIONS, Settings(profile=profile))
    macs = fast.costs["flops"][1]
    plain = plan_for(subject, f"flops={macs}", OPTIONS, Settings(profile=profile))
    times = [true_latency(subject, p.counts(subject.graph)) for p in (fast, plain)]
    assert times[0] < 0.97 * times[1]


def test_a_written_plan_is_applied_without_the_profile(
    subject: Subject, profile: Path, tmp_path: Path
) -> None:
    settings = Settings(profile=profile)
    plan = plan_for(subject, "latency=0.7,params=0.9", OPTIONS, settings)
    result = compile_model(subject, plan, Settings(), tmp_path / "m.onnx", tmp_path / "m.plan.json")
    assert result.report.verification is not None
    assert result.report.budget["latency"] == plan.budget["latency"]
    check_plan(open_model(DIGITS), Plan.from_json((tmp_path / "m.plan.json").read_text()))


def test_other_resources_of_a_plan_are_still_held_against_the_model(
    subject: Subject, profile: Path
) -> None:
    plan = plan_for(subject, "latency=0.7", OPTIONS, Settings(profile=profile))
    text = plan.to_json().replace('"latency": {"dense"', '"patience": {"dense"')
    with pytest.raises(PlanError, match="unknown resource"):
        check_plan(subject, Plan.from_json(text))


@pytest.mark.parametrize("model", ["m5", "m6"])
def test_polynomial_models_can_be_budgeted(subject: Subject, profile: Path, model: str) -> None:
    plan = plan_for(subject, "latency=0.6", OPTIONS, Settings(profile=profile, latency_model=model))
    assert plan.costs["latency"][1] <= plan.budget["latency"]


def test_absolute_times_can_be_budgeted(subject: Subject, profile: Path) -> None:
    plan = plan_for(subject, "latency=150us", OPTIONS, Settings(profile=profile))
    assert plan.budget["latency"] == 150_000


def test_a_time_that_cannot_be_met_is_infeasible(subject: Subject, profile: Path) -> None:
    with pytest.raises(InfeasibleBudgetError, match="smallest reachable"):
        plan_for(subject, "latency=2us", OPTIONS, Settings(profile=profile))


def test_half_edge_needs_its_own_timings(subject: Subject, profile: Path) -> None:
    settings = Settings(profile=profile, latency_model="half-edge")
    with pytest.raises(ProfileError, match="--half-edge"):
        plan_for(subject, "latency=0.6", OPTIONS, settings)


def test_another_number_of_threads_is_refused(subject: Subject, profile: Path) -> None:
    with pytest.raises(ProfileError, match="was not measured with cpu, 3 threads"):
        plan_for(subject, "latency=0.6", OPTIONS, Settings(profile=profile, threads=3))


def test_without_a_profile_it_is_measured_and_said(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(attaching, "Effort", lambda: Effort(models=6, rounds=1, passes=1))
    plan = plan_for(subject, "latency=0.9", Options(align=12), Settings(), said.append)
    assert any(line.startswith("measuring latency") for line in said)
    assert plan.options["latency"]["profile"] == "measured for this plan"


def test_without_a_latency_budget_nothing_is_measured(subject: Subject) -> None:
    plan = plan_for(subject, "flops=0.6", OPTIONS, Settings())
    assert "latency" not in plan.costs
    assert "latency" not in plan.options


def test_budgets_that_name_latency_are_told_apart() -> None:
    assert names_latency("flops=0.5, latency=8ms")
    assert names_latency(["flops=0.5", "latency=0.5"])
    assert not names_latency("flops=0.5")


def test_an_unknown_model_of_latency_is_refused(subject: Subject, profile: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'half-edge'"):
        attach(subject, OPTIONS, Wanted(profile, "half_edge", Where()))


def test_the_batch_binds_symbolic_first_dimensions(subject: Subject) -> None:
    bound = at_batch(subject, 4)
    (image,) = [v.name for v in bound.model.graph.inputs]
    assert bound.facts.shapes[str(image)][0] == 4
    assert [e.name for e in bound.graph.edges] == [e.name for e in subject.graph.edges]


def test_python_takes_a_profile_in_memory(profile: Path) -> None:
    result = prunec.prune(
        DIGITS, "latency=0.6", align=4, profile=read_profile(profile), verify=False
    )
    dense, pruned = result.report.costs["latency"]
    assert pruned <= 0.6 * dense
