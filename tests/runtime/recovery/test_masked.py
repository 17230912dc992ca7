"""Weights that are 0 off the blocks of a partition are solved anew within the blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from doubled import HALF, Net, error, samples

from prunec.compiler.partition import Partition
from prunec.compiler.plan import Plan
from prunec.compiler.recovery import Recovered, Recovery
from prunec.compiler.walk import initializers
from prunec.passes.recovery.batchnorm import BatchNorm
from prunec.passes.recovery.bias import Bias
from prunec.passes.recovery.least_squares import LeastSquares
from prunec.passes.regroup.mask import masked
from prunec.runtime.compile import apply_plan
from prunec.runtime.recovery.recover import recover
from prunec.runtime.subject import Subject, open_model

pytest.importorskip("onnxruntime")
WIDTH = 2 * HALF


def twice_read(bias: bool, norm: bool) -> tuple[Net, onnx.ModelProto]:
    """A convolution each of whose inputs comes twice: half of them say it all."""
    net = Net()
    a = net.twice("x", "a", 3)
    net.store("b.w", net.draw(6, WIDTH, 3, 3))
    own = [net.store("b.b", net.draw(6))] if bias else []
    y = net.add("Conv", [a, "b.w", *own], "b.y", pads=[1] * 4)
    y = net.norm(y, "b.n", 6) if norm else y
    net.add("Relu", [y], "y")
    return net, net.model("y", ("n", 6, 6, 6))


def halves() -> Partition:
    """Each block has one of the two copies of every input; neither axis in order."""
    inputs = np.array([0, 1, 0, 1, 1, 0, 1, 0])
    return Partition.of(np.array([0, 1, 1, 0, 1, 0]), inputs)


def whole_plan(subject: Subject, groups: Mapping[str, Partition]) -> Plan:
    """Keep every channel."""
    from prunec.compiler.plan import Kept

    graph, dense = subject.graph, subject.graph.dense()
    return Plan(
        graph_sha256=subject.digest,
        hyperedges={e.name: Kept(e.size, tuple(range(e.size))) for e in graph.edges},
        weights={},
        costs={name: (cost(dense), cost(dense)) for name, cost in graph.costs.items()},
        budget={}, objective=0.0, bound=None, gap=None, components={}, options={}, versions={},
        groups=groups,
    )  # fmt: skip


def solved(
    model: onnx.ModelProto, net: Net, folder: Path, recovery: Recovery, partition: Partition
) -> tuple[Subject, ir.Model, ir.Model, Recovered]:
    """The subject, the masked and the recovered model, and the report."""
    subject = open_model(model)
    plan = whole_plan(subject, {"b.w": partition})
    plain = masked(apply_plan(subject, replace(plan, groups={})), plan.groups)
    out, report = recover(subject, plan, plain, samples(folder, net), recovery)
    return subject, plain, out, report


def weight(model: ir.Model) -> np.ndarray:
    tensor = initializers(model.graph)["b.w"].const_value
    assert tensor is not None
    return tensor.numpy()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_what_the_blocks_still_read_is_found(tmp_path: Path, bias: bool, norm: bool) -> None:
    net, model = twice_read(bias, norm)
    subject, plain, out, _ = solved(model, net, tmp_path, LeastSquares(), halves())
    assert error(subject, plain, net) > 0.1
    assert error(subject, out, net) < 1e-3
    off = ~halves().mask()
    assert not weight(out)[off].any()
    assert weight(plain)[~off].any()


def random_net() -> tuple[Net, onnx.ModelProto]:
    """The same where no input says what another does."""
    net = Net()
    net.store("a.w", net.draw(WIDTH, 3, 3, 3))
    a = net.add("Relu", [net.add("Conv", ["x", "a.w"], "a.y", pads=[1] * 4)], "a")
    net.store("b.w", net.draw(6, WIDTH, 3, 3))
    y = net.norm(net.add("Conv", [a, "b.w"], "b.y", pads=[1] * 4), "b.n", 6)
    net.add("Relu", [y], "y")
    return net, net.model("y", ("n", 6, 6, 6))


@pytest.mark.parametrize(
    "recovery", [LeastSquares(), LeastSquares(columns=1), Bias(), BatchNorm()], ids=str
)
def test_zeros_stay_and_no_layer_gets_worse(tmp_path: Path, recovery: Recovery) -> None:
    net, model = random_net()
    subject, plain, out, report = solved(model, net, tmp_path, recovery, halves())
    assert [repair.layer for repair in report.repairs] == [
        "b.n" if isinstance(recovery, BatchNorm) else "b.y"
    ]
    assert not weight(out)[~halves().mask()].any()
    if not isinstance(recovery, BatchNorm):  # running statistics are measured, not fitted
        assert all(repair.after <= repair.before for repair in report.repairs)
        assert error(subject, out, net) < error(subject, plain, net)


def test_a_masked_weight_that_two_nodes_read_is_solved_for_both(tmp_path: Path) -> None:
    net = Net()
    a = net.twice("x", "a", 3)
    net.store("b.w", net.draw(WIDTH, WIDTH, 1, 1))
    first = net.add("Conv", [a, "b.w"], "b1")
    net.add("Add", [first, net.add("Conv", [first, "b.w"], "b2")], "y")
    partition = Partition.of(np.arange(WIDTH) % 2, np.arange(WIDTH) % 2)
    model = net.model("y", ("n", WIDTH, 6, 6))
    _, _, out, report = solved(model, net, tmp_path, LeastSquares(), partition)
    assert not weight(out)[~partition.mask()].any()
    assert report.repairs[0].after < report.repairs[0].before


def test_channels_and_blocks_leave_together(tmp_path: Path) -> None:
    """A partition over the dense axes counts what stays of them."""
    net, model = twice_read(True, True)
    subject = open_model(model)
    keep = (0, 1, 2, 3, 4, 7)
    kept = whole_plan(subject, {})
    edge = next(name for name in kept.hyperedges if name.startswith("a.w"))
    edges = {**kept.hyperedges, edge: replace(kept.hyperedges[edge], positions=keep)}
    mask = replace(kept, hyperedges=edges).mask(subject.graph)
    from prunec.compiler.plan import weight_slices

    small = Partition.of([0, 1, 1, 0, 1, 0], [0, 1, 0, 1, 1, 0])
    plan = replace(
        kept,
        hyperedges=edges,
        weights=weight_slices(subject.graph, mask),
        groups={"b.w": small.spread(range(6), keep, (6, WIDTH))},
    )
    counts = plan.counts(subject.graph)
    costs = {n: (c(subject.graph.dense()), c(counts)) for n, c in subject.graph.costs.items()}
    sliced = apply_plan(subject, replace(plan, groups={}, costs=costs))
    plain = masked(sliced, {"b.w": small})
    out, report = recover(subject, plan, plain, samples(tmp_path, net), LeastSquares())
    assert weight(out).shape == (6, 6, 3, 3)
    assert not weight(out)[~small.mask()].any()
    assert error(subject, out, net) < error(subject, plain, net)
    assert all(repair.after <= repair.before for repair in report.repairs)
