"""Quantisation-aware training: what is evaluated is what is written, and it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from training_nets import CPU, by_labels, images, indexed, net

from prunec.compiler.errors import UsageError
from prunec.compiler.quantisation import Grid, Quantiser
from prunec.frontends.onnx import load, to_proto
from prunec.passes.quantize.quantisers import Line, PowerOfTwo, Scaler
from prunec.passes.quantize.recipe import parse_recipe
from prunec.runtime.torch_view import torch_view
from prunec.runtime.training.aware import Aware
from prunec.runtime.training.batch import Batch, Shard
from prunec.runtime.training.conversion import Conversion, in_opset
from prunec.runtime.training.evaluate import judge_of
from prunec.runtime.training.fit import fit
from prunec.runtime.training.grids import LearnedGrid, RunningGrid
from prunec.runtime.training.hooks import Extras, StepInfo
from prunec.runtime.training.quantised import Clock
from prunec.runtime.training.scales import Learned, Published, Running
from prunec.runtime.training.settings import AdamW, Sgd, TrainSettings

FAST = replace(CPU, epochs=2, optimizer=Sgd(), learning_rate=0.05)
NARROW = Aware(parse_recipe("w4a4"), ends=None, sums=None, samples=32)


def transposed() -> onnx.ModelProto:
    """Conv, grouped ConvTranspose and its norm, Relu, global pool, Flatten."""
    rng = np.random.default_rng(0)
    node = helper.make_node
    weights = {
        "w": rng.standard_normal((8, 3, 3, 3)) * 0.3,
        "t": rng.standard_normal((8, 2, 2, 2)) * 0.3,
        **{name: rng.uniform(0.5, 2, 4) for name in "gsmv"},
    }
    weights["g"][1] *= -1
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], name="conv"),
        node("ConvTranspose", ["c", "t"], ["u"], group=2, strides=[2, 2], name="up"),
        node("BatchNormalization", ["u", *"gsmv"], ["n"], name="norm"),
        node("Relu", ["n"], ["r"], name="relu"),
        node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        node("Flatten", ["p"], ["y"], name="flat"),
    ]
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ("N", 3, 4, 4)), ("y", ("N", 4)))
    ]
    stored = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()]
    graph = helper.make_graph(nodes, "up", infos[:1], infos[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def residual() -> onnx.ModelProto:
    """Conv, Relu, Conv, Add to the Relu, global pool, Flatten, Gemm."""
    rng = np.random.default_rng(0)
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "a"], ["c"], pads=[1, 1, 1, 1], name="first"),
        node("Relu", ["c"], ["r"], name="relu"),
        node("Conv", ["r", "b"], ["d"], pads=[1, 1, 1, 1], name="second"),
        node("Add", ["d", "r"], ["s"], name="add"),
        node("GlobalAveragePool", ["s"], ["p"], name="pool"),
        node("Flatten", ["p"], ["f"], name="flat"),
        node("Gemm", ["f", "fc"], ["y"], transB=1, name="head"),
    ]
    shapes = {"a": (4, 3, 3, 3), "b": (4, 4, 3, 3), "fc": (4, 4)}
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ("N", 3, 4, 4)), ("y", ("N", 4)))
    ]
    stored = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    graph = helper.make_graph(nodes, "residual", infos[:1], infos[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def batch(samples: int = 32, seed: int = 3) -> Batch:
    x, y = images(samples, seed)
    return Batch({"x": torch.from_numpy(x)}, torch.from_numpy(y))


def odd_norm(model: onnx.ModelProto) -> onnx.ModelProto:
    """Norms with factors of both signs, large and 0."""
    rng = np.random.default_rng(5)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if tensor.name == "g":
            array[:] = rng.standard_normal(array.shape) * 2
            array[1] = 0
        elif tensor.name in ("s", "m", "v"):
            array[:] = rng.uniform(0.2, 2, array.shape)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def converted(source: onnx.ModelProto, aware: Aware) -> Conversion:
    model = in_opset(load(source), aware)
    return Conversion(torch_view(model), model, by_labels(), aware, [batch()])


def trained(made: Conversion, how: TrainSettings = FAST, **more: Any) -> Conversion:
    extras = Extras(stateful={"clock": made.loss.clock})
    held = indexed(32, seed=9).part(np.arange(32), shuffle=False)
    fit(
        made.view, indexed(), made.loss, how, extra_parameters=made.loss.groups(how),
        on_step=made.on_step(how.epochs), extras=extras,
        held_out=(held, judge_of(by_labels(), made.judged)), **more,
    )  # fmt: skip
    return made


def through_onnxruntime(model: ir.Model, feeds: Batch) -> dict[str, np.ndarray]:
    """All floats that leave integers, and the output."""
    proto = to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    names = [n.output[0] for n in proto.graph.node if n.op_type == "DequantizeLinear"]
    known = {o.name for o in proto.graph.output}
    shown = [n for n in names if n.endswith(".dequantized") and n not in known]
    proto.graph.output.extend(
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in shown
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    asked = [*(o.name for o in session.get_outputs())]
    fed = {n: t.numpy() for n, t in feeds.feeds.items()}
    return dict(zip(asked, session.run(asked, fed), strict=True))


def gap(made: Conversion, samples: Batch) -> float:
    """Share of the integers that the trained view and onnxruntime disagree about."""
    written, _ = made.result(samples.feeds)
    found = through_onnxruntime(written, samples)
    grids = made.loss.ranges()
    with torch.no_grad():
        own = made.loss.run(made.view, samples.feeds, tuple(grids))
    other = total = 0
    for name, grid in grids.items():
        ours = np.rint(own[name].numpy() / grid.scale)
        theirs = np.rint(found[f"{name}.dequantized"] / grid.scale)
        # One step of 4 bits before a pool can be two of the finer steps behind it.
        assert np.abs(ours - theirs).max() <= 2, name
        other += int((ours != theirs).sum())
        total += ours.size
    assert total
    return other / total


@pytest.mark.parametrize("text", ["w4a4", "w8a8", "w4a8{channels=false}", "w3a5"])
@pytest.mark.parametrize("norm", [True, False])
def test_what_is_trained_is_what_onnxruntime_computes(text: str, norm: bool) -> None:
    """But for biases, which are written in steps of their layer's products."""
    aware = replace(NARROW, recipe=parse_recipe(text))
    source = odd_norm(net(norm=norm)) if norm else net(norm=False)
    assert gap(trained(converted(source, aware)), batch(64, seed=8)) < 0.05


def test_without_biases_the_integers_are_the_same() -> None:
    made = converted(net(norm=False), NARROW)
    with torch.no_grad():
        for name in ("b", "fb"):
            made.view.get_parameter(name).zero_()
    assert gap(made, batch(64, seed=8)) == 0


@pytest.mark.parametrize("text", ["w4a4", "w8a8", "weights=int4{block=2}", "w8a16"])
def test_what_is_evaluated_is_what_is_written(text: str) -> None:
    made = trained(converted(odd_norm(net()), replace(NARROW, recipe=parse_recipe(text))))
    samples = batch(64, seed=8)
    written = through_onnxruntime(made.result(samples.feeds)[0], samples)["y"]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        own = made.judged(samples.feeds, ("y",))["y"]
    assert np.allclose(own.numpy(), written, atol=1e-5 * np.abs(written).max())


def test_norms_behind_grouped_transposed_convolutions_are_folded() -> None:
    assert gap(trained(converted(transposed(), NARROW)), batch(64, seed=8)) < 0.05


def test_training_lowers_the_loss_of_the_written_model() -> None:
    made = trained(converted(net(4), NARROW), replace(FAST, epochs=8))
    data, judge = indexed(32, seed=9), judge_of(by_labels(), made.judged)
    first = judge_of(by_labels(), converted(net(4), NARROW).judged)
    feeds = next(data.part(np.arange(32), shuffle=False).epoch(0, Shard()))
    assert judge(feeds)[0] < 0.8 * first(feeds)[0]


def test_learned_scales_move_and_running_ones_follow_the_data() -> None:
    for scales in (Learned(), Running()):
        aware = replace(NARROW, scales=scales)
        before = converted(net(), aware)
        after = trained(converted(net(), aware))
        for name, grid in before.loss.ranges().items():
            assert (grid.scale != after.loss.ranges()[name].scale).all()


def test_learned_scales_have_a_rate_of_their_own_and_no_decay() -> None:
    made = converted(net(), replace(NARROW, scales=Learned(rate=0.1)))
    sgd = replace(FAST, optimizer=Sgd(), learning_rate=0.5)
    (group,) = made.loss.groups(sgd)
    assert (group.rate, group.weight_decay) == (0.05, 0.0)
    assert len(group.parameters) == len(made.loss.sites)
    assert converted(net(), replace(NARROW, scales=Running())).loss.groups(sgd) == ()


def test_steps_of_adamw_are_in_units_of_the_scales() -> None:
    """At its rate of 0.001 a scale of 8 bits, about 0.005, would be anything after ten steps."""
    made = converted(net(), Aware(parse_recipe("w8a8")))
    first = {site.name: grid.grid().scale.copy() for site, grid in made.loss._pairs()}
    how = replace(FAST, optimizer=AdamW(), learning_rate=None, warmup=0.0, clip=0.0)
    for group in made.loss.groups(how):
        (scale,) = group.parameters
        assert group.rate == pytest.approx(1e-3 * float(scale.detach().mean()))
    trained(made, how)
    for site, grid in made.loss._pairs():
        assert np.abs(grid.grid().scale / first[site.name].mean()).max() < 5
        np.testing.assert_allclose(
            grid.grid().scale, first[site.name], rtol=0, atol=0.05 * first[site.name].mean()
        )


def test_a_learned_scale_has_a_floor() -> None:
    grid = LearnedGrid(Grid(8, True, np.array([0.5, 2.0]), np.zeros(2), axis=0))
    with torch.no_grad():
        grid.scale.copy_(torch.tensor([-1.0, 1.0]))
    np.testing.assert_allclose(grid.grid().scale, [0.5 / 8, 1.0])


@pytest.mark.parametrize(
    "by", [Scaler(), Scaler(legacy_step=True), Scaler(unsigned=True), Line(), PowerOfTwo()]
)
def test_running_ranges_start_where_calibration_ended(by: Quantiser) -> None:
    for low in (-1.0, 0.0):
        grid = by(np.array([low]), np.array([3.0]), 4)
        assert RunningGrid(grid, by, weight=1).grid().scale == pytest.approx(grid.scale)


def test_running_ranges_are_means_over_steps() -> None:
    """The lines of SEEDS.md 3.1.5."""
    start = Grid(4, False, np.array([0.1]), np.zeros(1))
    grid = RunningGrid(start, Line(), weight=0)
    lines = []
    for k in (1, 2, 3):
        grid.see(torch.tensor([[0, 1.0 + k], [-0.5, 2]]))
        lines.append((grid.low.item(), grid.high.item()))
    assert lines == [(-0.5, 2), (-0.5, 2.5), (-0.5, 3)]
    assert grid.grid().scale[0] == np.float32(3.5 / 15)


def test_quantisation_starts_when_the_schedule_says() -> None:
    aware = replace(NARROW, start=Published(weights=0.5, activations=0.25))
    made = converted(net(), aware)
    with torch.no_grad():
        floats = by_labels()(made.view.eval(), batch())["labels"]
        assert made.loss(made.view, batch())["labels"] == floats
        assert made.judged(batch().feeds, ("y",))["y"].shape == (32, 4)
    clock = made.loss.clock
    seen = []
    for step in range(1, 13):
        clock.tick(StepInfo(step, 24, 1, {}, torch.optim.SGD([torch.ones(1)], 0.1)), each=12)
        seen.append(clock.now())
    assert seen.index((False, True)) + 1 == 3
    assert seen.index((True, True)) + 1 == 6
    other = Clock(aware.start)
    assert other.now() == (False, False)
    other.load_state_dict(clock.state_dict())
    assert other.now() == (True, True)


class Killed(Exception):
    """What a test stops a run with."""


@pytest.mark.parametrize("scales", [Learned(), Running()])
def test_a_killed_run_goes_on_to_the_same_scales(scales: Any, tmp_path: Path) -> None:
    aware = replace(NARROW, scales=scales, start=Published(0.5, 0.25))
    how = replace(FAST, ema=0.9, checkpoint=tmp_path / "state", checkpoint_steps=1)
    whole = trained(converted(net(), aware), replace(how, checkpoint=None))
    made = converted(net(), aware)
    tick = made.on_step(how.epochs)

    def kill(info: StepInfo) -> None:
        tick(info)
        if info.step == 5:
            raise Killed

    made.on_step = lambda epochs: kill  # type: ignore[method-assign]
    with pytest.raises(Killed):
        trained(made, how)
    again = trained(converted(net(), aware), how)
    state, expected = again.loss.state_dict(), whole.loss.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)


def test_ends_and_sums_have_more_bits() -> None:
    wide = converted(residual(), replace(NARROW, ends=8, sums=8)).survey.places
    assert {n: w.bits for n, w in wide.weights.items()} == {"a": 8, "b": 4, "fc": 8}
    assert wide.activations == {"x": 8, "r": 4, "d": 8, "s": 8, "p": 8}
    same = converted(residual(), NARROW).survey.places
    assert {w.bits for w in same.weights.values()} == set(same.activations.values()) == {4}


def test_what_cannot_be_trained_is_said() -> None:
    with pytest.raises(UsageError, match="can't be learned; give --quantize-scales running"):
        Aware(parse_recipe("w8a8{weights=power-of-two}"))
    with pytest.raises(UsageError, match="rounds weights to the nearest"):
        Aware(parse_recipe("w8a8{rounding=gptq}"))
    made = converted(net(), NARROW)
    with pytest.raises(UsageError, match="arrived quantised"):
        in_opset(made.result(batch().feeds)[0], NARROW)
    with pytest.raises(UsageError, match="no layer that the recipe quantises"):
        in_opset(load(net()), replace(NARROW, recipe=parse_recipe("w4a4{first=false,last=false}")))
