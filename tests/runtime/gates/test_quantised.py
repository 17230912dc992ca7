"""Channels close while weights and activations are on their grids: the edits compose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from prunec.compiler.errors import ModelError, UsageError
from prunec.compiler.quantisation import Grid
from prunec.frontends.onnx import load
from prunec.passes.apply import prune
from prunec.passes.criteria.gate import Gate
from prunec.passes.masks.masks import Masks
from prunec.passes.options import Options
from prunec.passes.quantize.places import Places
from prunec.passes.quantize.recipe import parse_recipe
from prunec.passes.quantize.trained import Trained
from prunec.runtime.compile import Settings
from prunec.runtime.data import DataSpec
from prunec.runtime.gates.session import Session, open_session
from prunec.runtime.gates.train import Lesson, Lookout, Pruned, Targets, train
from prunec.runtime.quantize.quantise import Conditions, quantise
from prunec.runtime.session import make_session
from prunec.runtime.subject import open_model, reopened
from prunec.runtime.torch_view.run import composed
from prunec.runtime.training.aware import Aware
from prunec.runtime.training.history import Epoch
from prunec.runtime.training.reading import first_batch
from prunec.runtime.training.scales import Learned, Published, Running, Scales
from prunec.runtime.training.settings import Recipe, Sgd, TrainSettings

SGD = TrainSettings(steps=12, batch=16, optimizer=Sgd(), device="cpu", threads=1)
NARROW = Aware(parse_recipe("w4a4"), ends=None, sums=None)


def lesson(
    data: Path, by: Gate | Masks, aware: Aware = NARROW, training: TrainSettings = SGD
) -> Lesson:
    return Lesson(
        by,
        "flops=0.5",
        training=training,
        options=Options(align=1),
        settings=Settings(data=DataSpec(str(data)), verify=True),
        aware=aware,
    )


def session_of(model: Path, data: Path, aware: Aware | None) -> Session:
    return open_session(
        open_model(model), DataSpec(str(data)), Recipe(), SGD, weights=True, aware=aware
    )


def test_edits_of_one_place_follow_each_other() -> None:
    both = composed(
        {("a", 0): lambda x: x + 1, "v": torch.relu}, {("a", 0): lambda x: 2 * x, ("b", 0): abs}
    )
    assert both.keys() == {("a", 0), ("b", 0), "v"}
    assert both[("a", 0)](torch.tensor(3.0)) == 8


def test_closed_gates_on_the_rounded_view_are_the_rounded_pruned_model(
    dense: Path, labelled: Path
) -> None:
    """What is trained under gates of 0 and 1 is what is written in the end, integers and all."""
    found = train(open_model(dense), lesson(labelled, Gate(ramp=0.5)))
    assert found.result is not None
    plan = found.result.plan
    session = session_of(dense, labelled, NARROW)
    trained = reopened(found.trained, session.subject)
    mask = plan.mask(trained.graph)[:-1]
    assert not mask.all()
    # The trained weights and statistics in another view of the dense model.
    with torch.no_grad():
        for name, value in session.view.state_dict().items():
            stored = found.trained.graph.initializers[session.view.names[name]].const_value
            assert stored is not None
            value.copy_(torch.tensor(stored.numpy()))
    batch = first_batch(session.data)
    assert session.conversion is not None
    given = session.conversion.trained(batch.feeds)
    sliced = given.sliced(trained.graph, plan.mask(trained.graph))
    assert sum(g.scale.size for g in sliced.weights.values()) < sum(
        g.scale.size for g in given.weights.values()
    )
    gates = torch.as_tensor(mask, dtype=torch.float32)[None]
    session.view.eval()
    with torch.no_grad():
        gated = session.gated(batch.feeds, gates, None, session.conversion.loss.edits())["y"]

    pruned = prune(trained.model, trained.facts, trained.graph, plan.mask(trained.graph))
    done = quantise(pruned, session.conversion.survey.recipe, Conditions(trained=sliced))
    (own,) = make_session(done.model, optimise=False).run({"x": batch.feeds["x"].numpy()}, ["y"])
    np.testing.assert_allclose(own, gated.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("by", "scales"),
    [
        (Gate(ramp=0.5), Learned()),
        (Gate(ramp=0.5), Running()),
        (Gate(weight=2.0), Learned()),
        (Masks(schedule="stepwise", repetition=2), Learned()),
    ],
)
def test_the_result_is_pruned_and_quantised(
    dense: Path, labelled: Path, tmp_path: Path, by: Gate | Masks, scales: Scales
) -> None:
    files = Targets(*(tmp_path / name for name in ("p.onnx", "p.json", "t.onnx")))
    found = train(open_model(dense), lesson(labelled, by, replace(NARROW, scales=scales)), files)
    assert found.result is not None
    report = found.result.report
    assert report.quantised is not None
    assert report.verification is not None
    assert report.verification.passed
    plan = found.result.plan
    assert plan.costs["flops"][1] <= plan.budget["flops"]
    assert set(plan.bits.values()) == {4}
    assert files.pruned is not None
    assert files.trained is not None
    body = onnx.load(files.pruned)
    onnx.checker.check_model(body, full_check=True)
    stored = {t.name: t for t in body.graph.initializer}
    kept = {len(e.positions) for e in plan.hyperedges.values()}
    assert stored["w1.codes"].dims[0] in kept
    assert stored["w1.codes"].data_type == onnx.TensorProto.INT4
    assert all(node.op_type != "DequantizeLinear" for node in load(files.trained).graph)


class Killed(Exception):
    """Stands for a signal."""


@pytest.mark.parametrize("scales", [Learned(), Running()])
def test_a_killed_run_goes_on_to_the_same_scales(
    dense: Path, labelled: Path, tmp_path: Path, scales: Scales
) -> None:
    aware = replace(NARROW, scales=scales, start=Published(0.5, 0.25))

    def run(checkpoint: Path | None, kill: bool = False) -> Pruned:
        def on_epoch(epoch: Epoch) -> None:
            if kill:
                raise Killed

        how = replace(SGD, checkpoint=checkpoint, checkpoint_steps=3)
        task = lesson(labelled, Gate(ramp=0.5), aware, how)
        return train(open_model(dense), task, lookout=Lookout(on_epoch=on_epoch))

    whole = run(None)
    with pytest.raises(Killed):
        run(tmp_path / "stop", kill=True)
    again = run(tmp_path / "stop")
    assert again.history.resumed
    assert again.result is not None
    assert whole.result is not None
    stored = again.result.model.graph.initializers
    for name, value in whole.result.model.graph.initializers.items():
        own = stored[name].const_value
        assert own is not None
        assert value.const_value is not None
        np.testing.assert_array_equal(own.numpy(), value.const_value.numpy(), err_msg=name)


def test_blocks_do_not_go_with_channels_that_leave(dense: Path, labelled: Path) -> None:
    with pytest.raises(UsageError, match="blocks of weights"):
        session_of(dense, labelled, Aware(parse_recipe("weights=int4{block=32}")))


def test_a_value_without_a_trained_scale_is_named() -> None:
    places = Places((), {}, {"v": 8})
    with pytest.raises(ModelError, match="no scale was trained for 'v'"):
        Trained({}, {}).settled(places)
    grid = Grid(4, False, np.array([0.1]), np.zeros(1))
    assert Trained({"v": grid}, {}).settled(places).activations == {"v": 4}
