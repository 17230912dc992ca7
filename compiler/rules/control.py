"""Control flow: bodies are interpreted where they stand; what crosses their border is tied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from prunec.compiler.control import Branches, Carried, Control, Iteration, Scanned, control_of
from prunec.compiler.labels import AxisLabels, Coupler, Unsupported
from prunec.compiler.reasons import Reason
from prunec.compiler.site import Rule, Scope, Site, stay


def branches(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """What leaves an If is tied over both branches; ONNX If.

    Both count in the costs, because the data decides which one runs. Where the condition is a
    constant, the branch taken counts alone and makes the outputs.
    """
    scope, control = _wired(site)
    assert isinstance(control, Branches)
    for branch in control.branches:
        scope.run(branch, int(control.taken is None or control.taken is branch))
    live = control.branches if control.taken is None else (control.taken,)
    return [
        _merged(scope, [branch.outputs[k] for branch in live], shape, c)
        for k, shape in enumerate(site.out_shapes)
    ]


def loop(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """What a Loop carries is tied to itself over the iterations; ONNX Loop.

    The body counts once an iteration; once where the data decides how often it runs.
    """
    scope, control = _wired(site)
    assert isinstance(control, Iteration)
    scope.labels.update((str(value.name), ()) for value in control.body.inputs[:2])
    trips = control.trips(scope.constants)
    _carry(scope, control.carried, control.body, 1 if trips is None else trips, c)
    shapes = site.out_shapes[len(control.carried) :]
    return [
        *(_final(scope, carried, c) for carried in control.carried),
        *(_stacked(scope, v, s, 0, c) for v, s in zip(control.body_stacked, shapes, strict=False)),
    ]


def scan(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """As a Loop; the body sees sequences without the axis that is scanned; ONNX Scan."""
    scope, control = _wired(site)
    assert isinstance(control, Scanned)
    for (value, along), inner in zip(control.sequences, control.body_sequences, strict=True):
        axes = scope.of(value)
        if not axes:
            continue
        axis = along % len(axes)
        c.freeze(axes[axis], Reason.ORDERED_AXIS, "the iterations of a Scan run along it")
        scope.labels[str(inner.name)] = (*axes[:axis], *axes[axis + 1 :])
    trips = control.trips(scope.shapes)
    _carry(scope, control.carried, control.body, 1 if trips is None else trips, c)
    shapes = site.out_shapes[len(control.carried) :]
    return [
        *(_final(scope, carried, c) for carried in control.carried),
        *(
            _stacked(scope, value, shape, along, c)
            for value, shape, (_, along) in zip(
                control.body_stacked, shapes, control.stacked(site.node), strict=False
            )
        ),
    ]


def _wired(site: Site) -> tuple[Scope, Control]:
    scope = site.scope
    assert scope is not None, "a rule of control flow runs inside an interpretation"
    control = control_of(site.node, site.opset, scope.constants)
    if control is None:
        raise Unsupported("its inputs and outputs do not fit its bodies (or it is of opset 8)")
    return scope, control


def _carry(
    scope: Scope, carried: Sequence[Carried], body: ir.Graph, times: int, c: Coupler
) -> None:
    """Run a body whose carried inputs are those of every iteration."""
    for start, inner, _, _ in carried:
        axes, shape = scope.of(start), scope.shapes.get(str(inner.name))
        if shape is None:
            continue
        if axes is None or tuple(map(len, axes)) != shape:
            axes = stay(shape, c, Reason.DYNAMIC_SHAPE)
        scope.labels[str(inner.name)] = axes
    scope.run(body, times)
    for start, inner, result, _ in carried:
        _merged(scope, [inner, start, result], scope.shapes.get(str(inner.name)), c)


def _final(scope: Scope, carried: Carried, c: Coupler) -> AxisLabels:
    _, inner, _, final = carried
    if final is None or not final.name:
        return ()
    return _merged(scope, [inner], scope.shapes.get(final.name), c)


def _merged(
    scope: Scope, sources: Sequence[ir.Value], shape: tuple[int, ...] | None, c: Coupler
) -> AxisLabels:
    """Labels of a value of `shape` that is now one, now another of `sources`."""
    known = [axes for axes in map(scope.of, sources) if axes is not None]
    agree = len(known) == len(sources) and all(tuple(map(len, axes)) == shape for axes in known)
    if agree:
        for axes in known[1:]:
            for first, other in zip(known[0], axes, strict=True):
                c.tie(first, other, "what crosses the border of a body is one value")
        return known[0]
    for axes in known:
        for labels in axes:
            c.freeze(labels, Reason.DYNAMIC_SHAPE, "its shape differs from body to body")
    return () if shape is None else stay(shape, c, Reason.DYNAMIC_SHAPE)


def _stacked(
    scope: Scope, source: ir.Value, shape: tuple[int, ...], along: int, c: Coupler
) -> AxisLabels:
    """Labels of the results of all iterations, side by side on an axis of their own."""
    axes = scope.of(source)
    axis = along % max(len(shape), 1)
    if axes is not None and shape and tuple(map(len, axes)) == (*shape[:axis], *shape[axis + 1 :]):
        time = c.frozen(shape[axis], Reason.ORDERED_AXIS)
        return (*axes[:axis], time, *axes[axis:])
    if axes is not None:
        raise Unsupported("the shape of what it stacks differs from iteration to iteration")
    return stay(shape, c, Reason.DYNAMIC_SHAPE)


RULES: Mapping[str, Rule] = {"If": branches, "Loop": loop, "Scan": scan}
