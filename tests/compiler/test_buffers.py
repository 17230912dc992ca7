"""What a run keeps: views, what is written in place, what is fused, bodies."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from nets import chain, conv, residual, weight
from properties.builder import Builder
from properties.oracle import analyse

from prunec.compiler.buffers import Run, Step, run_of


def run(model: onnx.ModelProto) -> Run:
    case = analyse(model)
    return run_of(case.model.graph, case.graph.held, case.facts, 17)


def step(of: Run, name: str) -> Step:
    return next(s for s in of.steps if any(name in node for node in s.nodes))


def test_a_view_is_the_buffer_that_it_shows() -> None:
    steps = run(chain())
    pool, flat, gemm = (step(steps, op) for op in ("GlobalAveragePool", "Flatten", "Gemm"))
    assert flat.writes == ()
    assert gemm.reads == flat.reads == pool.writes


def test_a_norm_behind_a_convolution_and_a_relu_write_in_place() -> None:
    steps = run(chain())
    for op in ("BatchNormalization", "Relu"):
        own = step(steps, op)
        assert own.reuses == ((own.reads[0], own.writes[0]),)
    assert step(steps, "Conv").reuses == ()


def test_an_addition_runs_inside_the_convolution_before_it() -> None:
    fused = step(run(residual()), "Add")
    assert [name.partition("_")[0] for name in fused.nodes] == ["Conv", "Add"]
    skip = fused.reuses[0][0]
    assert fused.reuses == ((skip, fused.writes[0]),)
    assert skip in fused.reads
    assert len(fused.reads) == 2


def test_a_convolution_that_others_read_is_not_fused() -> None:
    b = Builder(1, 17, batch=1)
    x = conv(b, b.input(1, 3, 4, 4), "stem.weight", 8)
    y = conv(b, b.relu(x), "branch.weight", 8)
    b.output(conv(b, b.add("Add", [b.relu(x), y]), "head.weight", 3))
    b.output(conv(b, y, "other.weight", 3))
    assert step(run(b.model()), "Add").nodes == ("Add_4",)


def test_inputs_weights_and_shape_arithmetic_take_no_memory() -> None:
    b = Builder(1, 17, batch=1)
    x = conv(b, b.input(1, 3, 4, 4), "stem.weight", 8)
    size = b.add("Shape", [x], (4,))
    b.output(conv(b, b.add("Reshape", [b.relu(x), size], (1, 8, 4, 4)), "head.weight", 3))
    steps = run(b.model())
    assert step(steps, "Conv").reads == ()
    assert step(steps, "Shape").writes == ()
    assert step(steps, "Shape").reads == ()


def test_steps_know_what_they_need_through_shape_arithmetic_too() -> None:
    b = Builder(1, 17, batch=1)
    x = conv(b, b.input(1, 3, 4, 4), "stem.weight", 8)
    size = b.add("Shape", [x], (4,))
    b.output(b.add("Reshape", [b.relu(x), size], (1, 8, 4, 4)))
    names = [s.nodes[0].partition("_")[0] for s in run(b.model()).steps]
    needed = {name: s.after for name, s in zip(names, run(b.model()).steps, strict=True)}
    assert {names[k] for k in needed["Reshape"]} == {"Shape", "Relu"}


def loop_over(b: Builder, x: str) -> str:
    """Three times over: a state, doubled; and all states side by side."""
    info = onnx.helper.make_tensor_value_info
    shape = list(b.shapes[x])
    body = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Add", ["state", "state"], ["twice"], "twice"),
            onnx.helper.make_node("Identity", ["twice"], ["seen"], "seen"),
            onnx.helper.make_node("Identity", ["go"], ["on"], "on"),
        ],
        "body",
        [info("i", 7, []), info("go", 9, []), info("state", 1, shape)],
        [info("on", 9, []), info("twice", 1, shape), info("seen", 1, shape)],
    )
    trips, go = b.store(np.array(3)), b.store(np.array(True))
    return b.many("Loop", [trips, go, x], [shape, [3, *shape]], body=body)[1]


def test_a_loop_holds_what_it_stacks_and_carries_while_its_body_runs() -> None:
    b = Builder(1, 17, batch=1)
    x = b.add("MatMul", [b.input(2, 4), weight(b, "w", 4, 6)], (2, 6))
    b.output(loop_over(b, x))
    case = analyse(b.model())
    steps = run_of(case.model.graph, case.graph.held, case.facts, 17)
    loop = step(steps, "Loop")
    (body,) = loop.bodies
    assert loop.held == (loop.writes[1],)
    assert len(body.carried) == 1
    assert case.graph.held[loop.held[0]] == 3 * 2 * 6 * 4
    elements = 2 * 6
    # The product, three additions, the last state and all of them; Identity is a view.
    dense = case.graph.dense()
    assert case.graph.costs["activations"](dense) == elements * (1 + 3 + 1 + 3)
    # Around the body the product; in it all states, the one carried and the one made.
    assert case.graph.costs["memory"](dense) == 4 * elements * (1 + 3 + 1 + 1)


def test_branches_share_their_place_in_memory() -> None:
    b = Builder(1, 17, batch=1)
    x = b.add("MatMul", [b.input(2, 4), weight(b, "w", 4, 6)], (2, 6))
    yes = b.add("Greater", [b.add("ReduceMax", [x], (), keepdims=0), b.integers()], ())
    info = onnx.helper.make_tensor_value_info
    branches = {
        key: onnx.helper.make_graph(
            [onnx.helper.make_node(op, [x], [f"{key}.y"], key)],
            key,
            [],
            [info(f"{key}.y", 1, [2, 6])],
        )
        for key, op in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    b.output(b.add("If", [yes], (2, 6), **branches))
    case = analyse(b.model())
    dense = case.graph.dense()
    # Twice as much as one value, and the condition; not three times.
    assert case.graph.costs["memory"](dense) == 2 * 48 + 1
    assert isinstance(case.model.graph, ir.Graph)
