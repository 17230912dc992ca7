"""Operators that move data: labels move exactly as the data moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from operator import mul

import numpy as np

from prunec.compiler.labels import AxisLabels, Coupler, Labels
from prunec.compiler.reasons import Reason
from prunec.compiler.site import Rule, Site, Unsupported, is_frozen, product, stay


def transpose(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Axes in another order."""
    perm = site.attr("perm", tuple(reversed(range(site.rank))))
    return [tuple(ins[0][k] for k in perm)]


def reshape(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Axes merge and split; a literal target follows the kept counts."""
    out = regroup(ins[0], site.in_shapes[0], site.out_shapes[0], c)
    target = site.constants[1] if site.has(1) else np.array(site.attr("shape", ()), np.int64)
    if target is not None:
        elements = {k: out[k] for k, t in enumerate(target.tolist()) if t > 0 and k < len(out)}
        c.resize(1 if site.has(1) else "shape", target, elements)
    return [out]


def flatten(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``(d0..d(axis-1), ...) -> two axes``."""
    return [regroup(ins[0], site.in_shapes[0], site.out_shapes[0], c)]


def regroup(
    axes: AxisLabels, shape: Sequence[int], target: Sequence[int], c: Coupler
) -> AxisLabels:
    """Labels after a reshape: through the common refinement of both shapes.

    An axis that takes part in several factors is related to them by `Coupler.factor`.
    """
    if product(shape) != product(target):
        raise Unsupported(f"the sizes {tuple(shape)} and {tuple(target)} hold different numbers")
    out: list[Labels] = [c.frozen(n) for n in target]
    if product(shape) == 0:
        return tuple(out)
    sources = [k for k, n in enumerate(shape) if n > 1]
    targets = [k for k, n in enumerate(target) if n > 1]
    for ins, outs in _blocks([shape[k] for k in sources], [target[k] for k in targets]):
        old, new = [sources[i] for i in ins], [targets[i] for i in outs]
        if len(old) == len(new) == 1:
            out[new[0]] = axes[old[0]]
            continue
        sizes = _refinement([shape[k] for k in old], [target[k] for k in new])
        if sizes is None:
            for k in old:
                c.freeze(axes[k], Reason.MERGE_OF_FREE_AXES, "a reshape that cuts across axes")
            continue
        factors = _split(axes, shape, old, sizes, c)
        for k in new:
            mine = _take(factors, target[k])
            out[k] = _merge(mine, c)
    return tuple(out)


def _blocks(shape: Sequence[int], target: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of axes with equal products on both sides."""
    blocks, i, j = [], 0, 0
    while i < len(shape):
        a, b, i0, j0 = shape[i], target[j], i, j
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                a, i = a * shape[i], i + 1
            else:
                b, j = b * target[j], j + 1
        blocks.append((list(range(i0, i)), list(range(j0, j))))
    return blocks


def _refinement(old: Sequence[int], new: Sequence[int]) -> list[int] | None:
    """Factor sizes, outermost first, that compose both shapes; None where there are none."""
    inner = sorted({*accumulate(reversed(old), mul), *accumulate(reversed(new), mul)})
    sizes, before = [], 1
    for boundary in inner:
        if boundary % before:
            return None
        sizes.append(boundary // before)
        before = boundary
    return sizes[::-1]


def _take(factors: list[Labels], size: int) -> list[Labels]:
    """Remove from the front the factors that compose an axis of `size`."""
    taken, have = [], 1
    while have < size:
        taken.append(factors.pop(0))
        have *= len(taken[-1])
    return taken


def _split(
    axes: AxisLabels, shape: Sequence[int], old: Sequence[int], sizes: list[int], c: Coupler
) -> list[Labels]:
    factors: list[Labels] = []
    rest = list(sizes)
    for k in old:
        own, have = [], 1
        while have < shape[k]:
            own.append(rest.pop(0))
            have *= own[-1]
        if len(own) == 1:
            factors.append(axes[k])
        else:
            factors.extend(_parts(axes[k], own, c))
    return factors


def _parts(labels: Labels, sizes: list[int], c: Coupler) -> list[Labels]:
    """An axis as factors of these sizes: the ones it was made of or split into before, or new."""
    if is_frozen(labels):
        return [c.frozen(n) for n in sizes]
    known = c.composition(labels)
    if known is None:
        parts = [c.fresh(n) for n in sizes]
        c.factor(labels, parts)
        c.compose(labels, parts)
        return parts
    out: list[Labels] = []
    for ins, outs in _blocks([len(f) for f in known], sizes):
        if len(outs) == 1:
            out.append(_merge([known[i] for i in ins], c))
        elif len(ins) == 1:
            out.extend(_parts(known[ins[0]], [sizes[j] for j in outs], c))
        else:
            # Cut elsewhere than before: both ways to cut hold at once.
            whole = _merge([known[i] for i in ins], c)
            parts = [c.fresh(sizes[j]) for j in outs]
            c.factor(whole, parts)
            out.extend(parts)
    return out


def _merge(factors: list[Labels], c: Coupler) -> Labels:
    if len(factors) == 1:
        return factors[0]
    size = product([len(f) for f in factors])
    live = [k for k, f in enumerate(factors) if not is_frozen(f)]
    if not live:
        return c.frozen(size)
    if len(live) == 1:  # the others are known to stay: no choice to make
        grid = [1] * len(factors)
        grid[live[0]] = len(factors[live[0]])
        whole = np.broadcast_to(factors[live[0]].reshape(grid), [len(f) for f in factors])
        cells = np.ascontiguousarray(whole).reshape(-1)
    else:
        cells = c.fresh(size)
        c.factor(cells, factors)
    c.compose(cells, factors)
    return cells


def depth_to_space(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """A channel leaves with all its sub-pixels; CRD and DCR order."""
    (x,), b = ins, site.attr("blocksize", 1)
    crd = site.attr("mode", "DCR") == "CRD"
    rows = x[1].reshape(-1, b * b) if crd else x[1].reshape(b * b, -1).T
    c.tie(rows, rows[:, :1], "sub-pixels of one channel")
    return [(x[0], np.ascontiguousarray(rows[:, 0]), *stay(site.out_space, c))]


def space_to_depth(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Every channel appears once per sub-pixel, sub-pixels outermost."""
    (x,), b = ins, site.attr("blocksize", 1)
    for labels in x[2:]:
        c.freeze(labels, Reason.SPATIAL_AXIS, "a spatial axis")
    return [(x[0], np.tile(x[1], b * b), *stay(site.out_space, c))]


def squeeze(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Unit axes go; without `axes` all of them."""
    units = [k for k, n in enumerate(site.in_shapes[0]) if n == 1]
    gone = site.axes(default=units)
    return [tuple(labels for k, labels in enumerate(ins[0]) if k not in gone)]


def unsqueeze(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Unit axes come; they stay."""
    rank = len(site.out_shapes[0])
    if site.has(1):
        new = [int(a) % rank for a in site.constant(1, "axes").reshape(-1)]
    else:
        new = [a % rank for a in site.attr("axes")]
    rest = iter(ins[0])
    return [tuple(c.frozen(1) if k in new else next(rest) for k in range(rank))]


def expand(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Unit axes stretch; a stretched axis follows what it is tied to."""
    shape = site.out_shapes[0]
    x = (*(c.frozen(1) for _ in range(len(shape) - len(ins[0]))), *ins[0])
    out = tuple(own if n == len(own) else c.fresh(n) for n, own in zip(shape, x, strict=True))
    target = site.constants[1]
    if target is None:
        for labels in out:
            c.freeze(labels, Reason.DYNAMIC_SHAPE, "an Expand whose shape depends on the data")
        return [out]
    offset = len(shape) - target.size
    sizes = {k: out[k + offset] for k, t in enumerate(target.tolist()) if t > 1}
    c.resize(1, target, sizes)
    return [out]


def tile(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Repeats of an axis carry its labels; repeats of a unit axis are new."""
    repeats = site.constant(1, "repeats").tolist()
    out = [
        labels if r == 1 else c.fresh(r) if len(labels) == 1 else np.tile(labels, r)
        for labels, r in zip(ins[0], repeats, strict=True)
    ]
    sizes = {k: out[k] for k, r in enumerate(repeats) if r > 1 and len(ins[0][k]) == 1}
    c.resize(1, np.array(repeats), sizes)
    return [tuple(out)]


RULES: Mapping[str, Rule] = {
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": flatten,
    "Reshape": reshape,
    "SpaceToDepth": space_to_depth,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
