from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prunec.compiler.errors import UsageError
from prunec.frontends.onnx import load
from prunec.passes.criteria.gate import Gate
from prunec.passes.gates.goal import goal_of
from prunec.passes.masks.masks import Masks, targets
from prunec.passes.options import Options
from prunec.passes.pipeline import limits_of
from prunec.runtime.compile import Settings
from prunec.runtime.data import DataSpec
from prunec.runtime.gates.masked import reading_order
from prunec.runtime.gates.train import Lesson, Lookout, Pruned, Targets, train
from prunec.runtime.subject import open_model
from prunec.runtime.torch_view.points import points_of
from prunec.runtime.training.history import Epoch
from prunec.runtime.training.settings import Sgd, TrainSettings

SGD = TrainSettings(steps=12, batch=16, optimizer=Sgd(), device="cpu", threads=1)
OPTIONS = Options(align=1)


def trained(
    model: Path, data: Path, by: Gate | Masks, targets: Targets | None = None, align: int = 1
) -> Pruned:
    lesson = Lesson(
        by,
        "flops=0.5",
        training=SGD,
        options=Options(align=align),
        settings=Settings(data=DataSpec(str(data)), verify=targets is not None),
    )
    return train(open_model(model), lesson, targets)


def test_what_is_cut_is_what_was_trained(dense: Path, labelled: Path, tmp_path: Path) -> None:
    files = Targets(*(tmp_path / name for name in ("p.onnx", "p.json", "t.onnx")))
    found = trained(dense, labelled, Gate(ramp=0.5), files, align=2)
    assert found.result is not None
    assert found.result.report.verification is not None
    assert found.result.report.verification.passed
    assert all(path.exists() for path in (files.pruned, files.plan, files.trained) if path)
    plan = found.result.plan
    assert all(len(edge.positions) % 2 == 0 for edge in plan.hyperedges.values())
    assert plan.options["gates"]["reached"]["flops"] <= 1
    assert plan.graph_sha256 == open_model(dense).digest  # the graph is the same, the weights not
    assert files.trained is not None
    before, after = (
        load(path).graph.initializers["w1"].const_value for path in (dense, files.trained)
    )
    assert before is not None
    assert after is not None
    assert not np.array_equal(before.numpy(), after.numpy())


@pytest.mark.parametrize(
    "masks",
    [
        Masks(),
        Masks(schedule="one-shot", statistic="l0"),
        Masks(schedule="stepwise", statistic="magnitude", rampup=True, repetition=3),
        Masks(order="shuffle", published=True),
    ],
)
def test_masks_leave_what_the_plan_keeps(dense: Path, labelled: Path, masks: Masks) -> None:
    found = trained(dense, labelled, masks)
    assert found.result is not None
    about = found.record["masks"]
    kept = [len(edge.positions) for edge in found.result.plan.hyperedges.values()]
    if masks.published:
        assert about["open"] >= sum(kept)
    else:
        assert about["open"] == sum(kept)
        assert 0.7 < about["reached"]["flops"] <= 1
    assert found.result.plan.costs["flops"][1] <= found.result.plan.budget["flops"]


def test_sparsity_is_uniform_and_meets_the_budget(dense: Path) -> None:
    graph = open_model(dense).graph
    goal = goal_of(graph, limits_of(graph, "flops=0.5"), Options(align=1))
    shares = targets(goal, 0.0)
    assert len(set(shares.tolist())) == 1
    counts = np.round(np.array(graph.dense()) * (1 - shares)).astype(int)
    assert goal.within(counts.tolist())
    assert not goal.within((counts + 1).tolist())
    np.testing.assert_allclose(targets(goal, 0.25), 0.25)
    protected = goal_of(graph, limits_of(graph, "flops=0.5"), Options(align=1, keep=("w1:0",)))
    assert targets(protected, 0.5).tolist() == [0, 0.5]


def test_hyperedges_take_turns_as_the_graph_reads_them(dense: Path) -> None:
    subject = open_model(dense)
    points = points_of(subject)
    edge = subject.graph.edge_of_group()
    assert reading_order(points, edge, 2) == [0, 1]
    assert reading_order(points[::-1], edge, 3) == [1, 0, 2]


def test_a_schedule_without_room_says_so() -> None:
    with pytest.raises(UsageError, match="needs more than 4 steps"):
        Masks().timetables(3, 4)
    with pytest.raises(UsageError, match="needs more than 20 steps"):
        Masks(interval=9).timetables(3, 20)
    tables = Masks(schedule="stepwise", repetition=4).timetables(2, 40)
    assert tables[0].rises == (0, 6, 12, 18)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "layer"}, "unknown schedule 'layer'"),
        ({"statistic": "mean"}, "unknown statistic"),
        ({"refresh": 0}, "refresh must be at least 1"),
        ({"sparsity": 1.0}, "sparsity lies in"),
    ],
)
def test_masks_refuse_options_that_mean_nothing(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Masks(**options)  # type: ignore[arg-type]


class Killed(Exception):
    """Stands for a signal."""


@pytest.mark.parametrize("by", [Gate(ramp=0.5), Masks(schedule="stepwise", repetition=3)])
def test_a_killed_run_goes_on_to_the_same_end(
    dense: Path, labelled: Path, tmp_path: Path, by: Gate | Masks
) -> None:
    """Killed after the first epoch of four steps, it goes on from the third, amid closing gates."""

    def run(checkpoint: Path | None, on_epoch: Callable[[Epoch], None]) -> Pruned:
        training = replace(SGD, checkpoint=checkpoint, checkpoint_steps=3)
        settings = Settings(data=DataSpec(str(labelled)), verify=False)
        lesson = Lesson(by, "flops=0.5", training=training, options=OPTIONS, settings=settings)
        return train(open_model(dense), lesson, lookout=Lookout(on_epoch=on_epoch))

    def kill(epoch: Epoch) -> None:
        raise Killed

    whole = run(None, lambda epoch: None)
    with pytest.raises(Killed):
        run(tmp_path / "stop", kill)
    resumed = run(tmp_path / "stop", lambda epoch: None)
    assert resumed.history.resumed == 3
    assert resumed.record == whole.record
    assert resumed.result is not None
    assert whole.result is not None
    assert resumed.result.plan == whole.result.plan
    for name, value in whole.trained.graph.initializers.items():
        own = resumed.trained.graph.initializers[name].const_value
        assert own is not None and value.const_value is not None
        np.testing.assert_array_equal(own.numpy(), value.const_value.numpy(), err_msg=name)
    with pytest.raises(UsageError, match="belongs to a run with other options"):
        by = replace(by, **({"sharpness": 2.0} if isinstance(by, Gate) else {"refresh": 2}))
        run(tmp_path / "stop", kill)


def test_training_is_said_once(dense: Path, labelled: Path) -> None:
    with pytest.raises(UsageError, match="steps is an option of the training here"):
        trained(dense, labelled, replace(Gate(), steps=7))
    with pytest.raises(UsageError, match="--data"):
        train(open_model(dense), Lesson(Gate(), "flops=0.5"))
