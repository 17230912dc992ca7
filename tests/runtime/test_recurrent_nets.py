"""Whole prunes of recurrent networks with their usual activations, proven by the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.passes import gate
from prunec.passes.options import Options
from prunec.passes.solvers.greedy import Greedy
from prunec.runtime.compile import Settings, apply_plan, plan_for
from prunec.runtime.recount import recount
from prunec.runtime.subject import Subject, open_model
from prunec.runtime.verify import Verification, verify

pytest.importorskip("onnxruntime")

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
T, N, WIDTH, H = 6, 2, 10, 16


class Net:
    """Recurrent layers over (T, N, 10) and a head of five classes."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[TensorProto] = []
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [T, N, WIDTH])]

    def weight(self, *shape: int) -> str:
        return self.store((0.4 * self.rng.standard_normal(shape)).astype(np.float32))

    def store(self, array: np.ndarray) -> str:
        self.tensors.append(numpy_helper.from_array(array, f"w{len(self.tensors)}"))
        return self.tensors[-1].name

    def add(self, op: str, inputs: Sequence[str], outputs: Sequence[str] = (), **kw: Any) -> str:
        outputs = outputs or [f"{op}_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(op, inputs, outputs, f"n{len(self.nodes)}", **kw))
        return next(filter(None, outputs))

    def layer(
        self,
        op: str,
        x: str = "x",
        width: int = WIDTH,
        outputs: Sequence[str] = (),
        rest: Sequence[str] = (),
        **kw: Any,
    ) -> str:
        """A recurrent node; rest: sequence_lens, initial_h, initial_c, P."""
        d, g = 1 + (kw.get("direction") == "bidirectional"), GATES[op]
        weights = [self.weight(d, g * H, width), self.weight(d, g * H, H)]
        inputs = [x, *weights, self.weight(d, 2 * g * H), *rest]
        return self.add(op, inputs, outputs, hidden_size=H, **kw)

    def squeezed(self, y: str, axis: int = 1) -> str:
        return self.add("Squeeze", [y, self.store(np.array([axis]))])

    def merged(self, y: str, d: int) -> str:
        """(T, D, N, H) as (T, N, D*H), as torch writes it."""
        y = self.add("Transpose", [y], perm=[0, 2, 1, 3])
        return self.add("Reshape", [y, self.store(np.array([T, N, d * H]))])

    def classified(
        self, h: str, width: int = H, leading: Sequence[int] = (T, N)
    ) -> onnx.ModelProto:
        y = self.add("MatMul", [h, self.weight(width, 5)], ["y"])
        out = helper.make_tensor_value_info(y, TensorProto.FLOAT, [*leading, 5])
        graph = helper.make_graph(self.nodes, "net", self.inputs, [out], self.tensors)
        imports = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)


def prune(model: onnx.ModelProto) -> tuple[float, Verification]:
    """Half of the flops; the share that is left, and the oracle's word."""
    subject = open_model(model)
    plan = plan_for(subject, "flops=0.5", Options(solver=Greedy(), align=1), Settings())
    dense, pruned = plan.costs["flops"]
    return pruned / dense, verify(subject, plan, apply_plan(subject, plan))


def proven(model: onnx.ModelProto) -> None:
    share, verification = prune(model)
    verification.require()
    assert share <= 0.5


def smallest(subject: Subject) -> float:
    cost, dense = subject.graph.costs["flops"], subject.graph.dense()
    return cost([1] * len(dense)) / cost(dense)


@pytest.mark.parametrize("op", sorted(GATES))
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_classifier_loses_half_of_its_flops(op: str, direction: str) -> None:
    net, d = Net(), 1 + (direction == "bidirectional")
    model = net.classified(net.merged(net.layer(op, direction=direction), d), d * H)
    proven(model)
    assert smallest(open_model(model)) < 0.05


@pytest.mark.parametrize("op", sorted(GATES))
def test_two_layers_are_chosen_apart(op: str) -> None:
    net = Net()
    h = net.squeezed(net.layer(op))
    model = net.classified(net.squeezed(net.layer(op, h, H)))
    assert len(open_model(model).graph.edges) == 2
    proven(model)


@pytest.mark.parametrize("op", ["GRU", "LSTM"])
def test_the_last_state_alone_may_be_read(op: str) -> None:
    net = Net()
    rest = [""] if op == "LSTM" else []
    model = net.classified(net.squeezed(net.layer(op, outputs=["", "h", *rest]), 0), leading=[N])
    proven(model)
    subject = open_model(model)
    counted = recount(subject.model, subject.facts, subject.graph.weights, subject.graph.held)
    assert counted["flops"] == N * (T * GATES[op] * H * (WIDTH + H) + 5 * H)


def test_peepholes_lengths_clip_and_coupled_gates() -> None:
    net = Net()
    lengths = net.store(np.array([6, 3], np.int32))
    rest = [lengths, net.weight(1, N, H), net.weight(1, N, H), net.weight(1, 3 * H)]
    proven(net.classified(net.squeezed(net.layer("LSTM", rest=rest, clip=2.0, input_forget=1))))


def test_an_encoder_hands_its_state_to_a_decoder() -> None:
    net = Net()
    net.layer("LSTM", outputs=["", "h", "c"])
    model = net.classified(net.squeezed(net.layer("LSTM", rest=["", "h", "c"])))
    assert len(open_model(model).graph.edges) == 1
    proven(model)


def test_a_bidirectional_encoder_starts_a_decoder_through_a_bridge() -> None:
    net = Net()
    net.layer("GRU", outputs=["", "h"], direction="bidirectional")
    flat = net.add(
        "Reshape", [net.add("Transpose", ["h"], perm=[1, 0, 2]), net.store(np.array([N, -1]))]
    )
    bridge = net.add("Tanh", [net.add("MatMul", [flat, net.weight(2 * H, H)])])
    start = net.add("Unsqueeze", [bridge, net.store(np.array([0]))])
    model = net.classified(net.squeezed(net.layer("GRU", rest=["", start], linear_before_reset=1)))
    assert len(open_model(model).graph.edges) == 2
    proven(model)


def test_a_state_that_the_caller_feeds_keeps_the_hidden_size() -> None:
    net = Net()
    net.inputs.append(helper.make_tensor_value_info("h0", TensorProto.FLOAT, [1, N, H]))
    graph = open_model(net.classified(net.squeezed(net.layer("GRU", rest=["", "h0"])))).graph
    assert graph.edges == ()


def test_units_with_small_weights_leave_first() -> None:
    net, weak = Net(), [1, 5, 11]
    model = net.classified(net.squeezed(net.layer("LSTM")))
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        for axis, size in enumerate(array.shape):
            blocks = np.moveaxis(array, axis, 0)
            if size % H == 0 and array.dtype == np.float32:
                blocks[np.isin(np.arange(size) % H, weak)] *= 1e-3
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    subject = open_model(model)
    plan = plan_for(subject, "flops=0.8", Options(solver=Greedy(), align=1), Settings())
    (kept,) = plan.hyperedges.values()
    assert not set(kept.positions) & set(weak)


def test_torch_ordered_weights_that_a_subgraph_puts_in_onnx_order() -> None:
    """iofc out of ifgo by Slice and Concat, and Unsqueeze, as an export without folding writes."""
    net = Net()

    def ordered(*shape: int) -> str:
        stored = net.weight(4 * H, *shape)
        parts = [
            net.add("Slice", [stored, net.store(np.array([a])), net.store(np.array([a + H])), zero])
            for a in (0, 3 * H, H, 2 * H)
        ]
        return net.add("Concat", parts, axis=0)

    zero = net.store(np.array([0]))
    w, r = (net.add("Unsqueeze", [ordered(n), zero]) for n in (WIDTH, H))
    b = net.add("Unsqueeze", [net.add("Concat", [ordered(), ordered()], axis=0), zero])
    y = net.add("LSTM", ["x", w, r, b], hidden_size=H)
    proven(net.classified(net.squeezed(y)))


def test_without_gates_inside_the_recurrence_a_removed_unit_would_still_be_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = Net()
    model = net.classified(net.squeezed(net.layer("LSTM")))
    monkeypatch.setattr(gate, "_gate_weight", lambda *_: None)
    failed = [c.name for c in prune(model)[1].checks if not c.passed]
    assert failed == ["gated == pruned", "exact weights"]
