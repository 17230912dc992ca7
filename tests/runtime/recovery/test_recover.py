from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from doubled import HALF, Net, error, halved, recovered, samples

from prunec.compiler.errors import DataError, UsageError
from prunec.compiler.walk import initializers
from prunec.passes.recovery import RECOVERIES
from prunec.passes.recovery.batchnorm import BatchNorm
from prunec.passes.recovery.bias import Bias
from prunec.passes.recovery.least_squares import LeastSquares
from prunec.passes.recovery.places import ROWS
from prunec.runtime.data import DataSpec
from prunec.runtime.difference import Failed
from prunec.runtime.recovery.choice import chosen
from prunec.runtime.recovery.only_weights import check_only_weights
from prunec.runtime.recovery.recover import Running, recover
from prunec.runtime.session import make_session
from prunec.runtime.widen import with_types

pytest.importorskip("onnxruntime")


def contents(model: ir.Model) -> dict[str, np.ndarray]:
    return {
        name: np.array(value.const_value.numpy())
        for name, value in initializers(model.graph).items()
        if value.const_value is not None
    }


def plain(shape: tuple[int, ...] = (3, 6, 6), norm: bool = True) -> tuple[Net, onnx.ModelProto]:
    """Convolutions none of whose channels says what another does; two blocks with a sum."""
    net = Net(shape)
    width = 2 * HALF

    def block(x: str, name: str, out: int, into: int) -> str:
        net.store(f"{name}.w", 2 * net.draw(out, into, 3, 3))
        y = net.add("Conv", [x, f"{name}.w"], f"{name}.y", pads=[1] * 4)
        return net.norm(y, f"{name}.n", out) if norm else y

    stem = net.add("Relu", [block("x", "stem", 6, shape[0])], "stem")
    a = net.add("Relu", [block(stem, "a", width, 6)], "a")
    first = net.add("Relu", [net.add("Add", [block(a, "b", 6, width), stem], "s1")], "r1")
    c = net.add("Relu", [block(first, "c", width, 6)], "c")
    second = net.add("Relu", [net.add("Add", [first, block(c, "d", 6, width)], "s2")], "r2")
    flat = net.add("Flatten", [net.add("GlobalAveragePool", [second], "p")], "f")
    net.store("fc.w", net.draw(10, 6))
    net.add("Gemm", [flat, "fc.w", net.store("fc.b", net.draw(10))], "y", transB=1)
    return net, net.model("y", ("n", 10))


BLOCKS = r"^[ac]\.w"


def mean_error(model: ir.Model, dense: ir.Model, net: Net) -> float:
    x = np.random.default_rng(11).standard_normal((40, *net.shape)).astype(np.float32)
    (a,), (b,) = (make_session(m).run({"x": x}) for m in (dense, model))
    return float(np.square(a - b).mean() / np.square(a - a.mean(0)).mean())


def test_no_layer_gets_worse_and_outputs_get_better(tmp_path: Path) -> None:
    net, model = plain()
    subject, sliced, out, report = recovered(model, samples(tmp_path, net, 80), only=BLOCKS)
    assert all(repair.after <= repair.before for repair in report.repairs)
    assert {repair.layer for repair in report.repairs} >= {"b.y", "c.y", "d.y", "y"}
    assert mean_error(out, subject.model, net) < 0.5 * mean_error(sliced, subject.model, net)
    assert (report.samples, report.held) == (80, 16)


def test_what_is_equal_to_the_dense_model_is_left_alone(tmp_path: Path) -> None:
    net, model = plain()
    _, sliced, out, report = recovered(model, samples(tmp_path, net), only=BLOCKS)
    before, after = contents(sliced), contents(out)
    assert "a.y" not in {repair.layer for repair in report.repairs}
    for name in ("stem.w", "a.w", "stem.n.m"):
        np.testing.assert_array_equal(before[name], after[name])


@pytest.mark.parametrize("name", RECOVERIES)
def test_only_weights_change(name: str, tmp_path: Path) -> None:
    net, model = plain()
    _, sliced, out, _ = recovered(model, samples(tmp_path, net), RECOVERIES[name](), BLOCKS)
    said = check_only_weights(sliced, out)
    assert not said.startswith("0 of")


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    net, model = plain()
    data = samples(tmp_path, net)
    first, second = (contents(recovered(model, data, only=BLOCKS)[2]) for _ in range(2))
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes(), name


def test_a_small_cache_changes_nothing(tmp_path: Path) -> None:
    net, model = plain()
    data = samples(tmp_path, net)
    kept = contents(recovered(model, data, only=BLOCKS)[2])
    for limit in (0, 40_000):
        again = contents(recovered(model, data, only=BLOCKS, running=Running(limit_bytes=limit))[2])
        for name, array in kept.items():
            np.testing.assert_allclose(array, again[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_branches_are_solved_against_the_sum(tmp_path: Path) -> None:
    net, model = plain()
    data = samples(tmp_path, net, 160)
    errors = {}
    for residual in (True, False):
        subject, _, out, _ = recovered(model, data, LeastSquares(residual=residual), BLOCKS)
        errors[residual] = mean_error(out, subject.model, net)
    assert errors[True] < errors[False]


def test_least_squares_beat_the_others(tmp_path: Path) -> None:
    net, model = plain()
    data = samples(tmp_path, net, 80)
    errors = []
    for recovery in (LeastSquares(), Bias()):
        subject, sliced, out, _ = recovered(model, data, recovery, BLOCKS)
        errors.append(mean_error(out, subject.model, net))
    assert errors[0] < errors[1] < mean_error(sliced, subject.model, net)


def test_running_statistics_become_those_of_the_data(tmp_path: Path) -> None:
    net, model = plain()
    spec = samples(tmp_path, net, 40)
    _, _, out, report = recovered(model, spec, BatchNorm(), BLOCKS)
    graph = out.clone()
    value = next(n for n in graph.graph if n.name == "d.y").outputs[0]
    graph.graph.outputs[:] = [value]
    (x,) = make_session(graph).run({"x": np.load(spec.path)["x"]})
    found = contents(out)
    np.testing.assert_allclose(found["d.n.m"], x.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["d.n.v"], x.var((0, 2, 3)), rtol=1e-4)
    assert "d.n" in {repair.layer for repair in report.repairs}


def test_bias_puts_the_means_right(tmp_path: Path) -> None:
    net, model = plain(norm=False)
    data = samples(tmp_path, net, 60)
    subject, sliced, out, report = recovered(model, data, Bias(residual=False), BLOCKS)
    changed = {k for k, v in contents(out).items() if v.tobytes() != contents(sliced)[k].tobytes()}
    assert changed == {"fc.b"}  # the convolutions have neither a bias nor a norm
    assert report.repairs[-1].after < report.repairs[-1].before
    assert subject.graph.edges


def test_memory_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    net, model = plain((3, 8, 8))
    subject, plan, sliced = halved(model, BLOCKS)
    peaks = []
    for number in (80, 240):
        data = samples(tmp_path, net, number)
        tracemalloc.start()
        how = LeastSquares(positions=ROWS // 60, clipped=1)
        recover(subject, plan, sliced, data, how, Running(limit_bytes=200_000))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The samples themselves are 0.3 MB more.
    assert peaks[1] < peaks[0] + 1_000_000


def test_constant_channels_and_few_samples(tmp_path: Path) -> None:
    """Singular Gram matrices: dead channels, and fewer rows than unknowns."""
    net, model = plain()
    x = np.random.default_rng(0).standard_normal((4, *net.shape)).astype(np.float32)
    x[:, 0] = 0
    path = tmp_path / "few.npz"
    np.savez(path, x=x)
    _, _, out, report = recovered(model, DataSpec(str(path)), only=BLOCKS)
    assert all(np.isfinite(array).all() for array in contents(out).values())
    assert all(repair.after <= repair.before for repair in report.repairs)


def test_activations_that_overflow_are_one_clear_line(tmp_path: Path) -> None:
    net, model = plain()
    path = tmp_path / "huge.npz"
    x = np.full((20, *net.shape), 3e38, np.float32)
    np.savez(path, x=x)
    with pytest.raises(DataError, match="is not finite on batch 0"):
        recovered(model, DataSpec(str(path)), only=BLOCKS)


def test_one_sample_is_too_few(tmp_path: Path) -> None:
    net, model = plain()
    with pytest.raises(DataError, match="at least two batches"):
        recovered(model, samples(tmp_path, net, 1), only=BLOCKS)


def test_samples_of_different_shapes(tmp_path: Path) -> None:
    _, proto = plain()
    for k in (2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[k].ClearField("dim_value")
        proto.graph.input[0].type.tensor_type.shape.dim[k].dim_param = f"d{k}"
    for k, size in enumerate((6, 9, 6)):
        rng = np.random.default_rng(k)
        np.savez(tmp_path / f"{k}.npz", x=rng.standard_normal((20, 3, size, size)).astype("f4"))
    _, _, _, report = recovered(proto, DataSpec(str(tmp_path)), only=BLOCKS)
    assert report.samples == 60
    assert all(repair.after <= repair.before for repair in report.repairs)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_element_types(dtype: Any, tmp_path: Path) -> None:
    """onnxruntime runs no convolution in double precision: there another type stands in."""
    net = Net(dtype=dtype)
    a = net.twice("x", "a", 3)
    net.reader("b.w", 5, 2 * HALF, 3, 3)
    net.add("Conv", [a, "b.w", net.store("b.b", net.draw(5))], "y", pads=[1] * 4)
    model = net.model("y", ("n", 5, 6, 6))
    subject, sliced, out, _ = recovered(model, samples(tmp_path, net))
    assert contents(out)["b.w"].dtype == dtype
    if dtype is np.float64:
        subject, out = replace(subject, model=with_types(subject.model)), with_types(out)
        sliced, net.dtype = with_types(sliced), np.float32
    assert error(subject, out, net) < (5e-3 if dtype is np.float16 else 1e-5)
    assert error(subject, sliced, net) > 0.02


def test_a_weight_that_two_nodes_read_is_solved_for_both(tmp_path: Path) -> None:
    net = Net()
    a = net.twice("x", "a", 3)
    net.reader("b.w", 5, 2 * HALF, 3, 3)
    first = net.add("Conv", [a, "b.w"], "first", pads=[1] * 4)
    half = net.add("AveragePool", [a], "half", kernel_shape=[2, 2], strides=[2, 2])
    second = net.add("Conv", [half, "b.w"], "second", pads=[1] * 4)
    wide = net.add("GlobalAveragePool", [first], "wide")
    net.add("Add", [wide, net.add("Relu", [second], "r")], "y")
    model = net.model("y", ("n", 5, 3, 3))
    subject, sliced, out, report = recovered(model, samples(tmp_path, net))
    assert error(subject, sliced, net) > 0.02
    assert error(subject, out, net) < 1e-5
    assert len(report.repairs) == 1


def test_norms_that_no_weight_absorbs_are_refitted(tmp_path: Path) -> None:
    """A norm after Concat: of channels that are gone nothing is left, the rest is as good."""
    net = Net()
    stem = net.add("Conv", ["x", net.store("s.w", net.draw(4, 3, 1, 1))], "s")
    net.store("a.w", 2 * net.draw(2 * HALF, 4, 3, 3))
    a = net.add("Relu", [net.add("Conv", [stem, "a.w"], "a.y", pads=[1] * 4)], "a")
    net.store("b.w", net.draw(6, 2 * HALF, 3, 3))
    b = net.add("Conv", [a, "b.w"], "b", pads=[1] * 4)
    joined = net.add("Relu", [net.norm(net.add("Concat", [stem, b], "j", axis=1), "n", 10)], "r")
    net.add("Conv", [joined, net.store("c.w", net.draw(5, 10, 1, 1))], "y")
    model = net.model("y", ("n", 5, 6, 6))
    _, sliced, out, report = recovered(model, samples(tmp_path, net))
    assert [r.layer for r in report.repairs] == ["b", "n", "y"]
    gamma = [contents(m)["n.g"] for m in (sliced, out)]
    assert (gamma[0] != gamma[1]).any()


def test_layers_with_many_inputs_are_rescaled_and_it_is_said(tmp_path: Path) -> None:
    net, model = plain()
    data = samples(tmp_path, net, 80)
    _, sliced, out, report = recovered(model, data, LeastSquares(columns=20), BLOCKS)
    assert "rescaled" in {note.code for note in report.diagnostics}
    assert all(repair.after <= repair.before for repair in report.repairs)
    before, after = contents(sliced)["d.w"], contents(out)["d.w"]
    ratio = (after / before).reshape(len(after), -1)
    np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones_like(ratio), rtol=1e-4)


def test_mirrored_images_count_as_samples(tmp_path: Path) -> None:
    net, model = plain()
    data = samples(tmp_path, net, 40)
    _, _, without, _ = recovered(model, data, LeastSquares(), BLOCKS)
    _, _, out, report = recovered(model, data, LeastSquares(mirror=True), BLOCKS)
    assert (report.samples, report.held) == (40, 8)
    assert contents(out)["d.w"].tobytes() != contents(without)["d.w"].tobytes()


def test_mirroring_needs_images(tmp_path: Path) -> None:
    net = Net((3, 20))
    a = net.twice("x", "a", 3, (3,))
    net.add("Conv", [a, net.reader("b.w", 5, 2 * HALF, 3)], "y")
    model = net.model("y", ("n", 5, 18))
    with pytest.raises(DataError, match="mirror=true is for images"):
        recovered(model, samples(tmp_path, net), LeastSquares(mirror=True))


def test_auto_is_least_squares_with_data_and_nothing_without() -> None:
    assert chosen("auto", True) == LeastSquares()
    assert chosen("auto", False) is None
    assert chosen("none", True) is None
    assert chosen("least-squares{clipped=0,mirror=true}", True) == LeastSquares(
        clipped=0, mirror=True
    )
    assert chosen(Bias(), True) == Bias()


@pytest.mark.parametrize(
    "recover",
    ["nope", "bias{positions=0}", "least-squares{ridge=-1}", "least-squares{clipped=-1}"],
)
def test_bad_specifications_are_refused(recover: str) -> None:
    with pytest.raises(UsageError):
        chosen(recover, True)


def test_a_recovery_without_data_is_refused() -> None:
    with pytest.raises(UsageError, match="needs data"):
        chosen("bias", False)


def test_another_node_or_type_is_not_a_change_of_weights(tmp_path: Path) -> None:
    net, model = plain()
    _, sliced, out, _ = recovered(model, samples(tmp_path, net), only=BLOCKS)
    other = out.clone()
    node = next(n for n in other.graph if n.name == "b.y")
    node.attributes["pads"] = ir.AttrInt64s("pads", [0, 0, 2, 2])
    with pytest.raises(Failed, match="pads"):
        check_only_weights(sliced, other)
    spoilt = out.clone()
    value = spoilt.graph.initializers["fc.b"]
    value.const_value = ir.tensor(np.full(10, np.nan, np.float32), name="fc.b")
    with pytest.raises(Failed, match="NaN"):
        check_only_weights(sliced, spoilt)
