"""Rows and columns of convolution kernels as axes that may shrink (`Freedom.kernels`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.labels import AxisLabels, Coupler, Labels, Window
from prunec.compiler.reasons import Reason
from prunec.compiler.site import Site

if TYPE_CHECKING:
    from prunec.compiler.hypergraph import Hypergraph

# Those of float weights, whose removed positions are zeros.
SLIDING = frozenset({"Conv", "ConvTranspose", "FusedConv", "NhwcConv", "NhwcFusedConv"})
# Longer kernels have more progressions than anyone wants to choose from, and need no pruning by
# position: an axis of 64 has 7 000 of them.
LONGEST = 64
WHY = "a position of a convolution kernel"
Subset = tuple[int, ...]


def slide(site: Site, kernel: AxisLabels, c: Coupler) -> AxisLabels:
    """Let positions of `kernel` leave where the run and the form of the node allow it.

    Returns the axes, for the costs; none where they stay. Removed positions are zeros of the
    weight for the gated graph.
    """
    if not c.freedom.kernels or site.node.op_type not in SLIDING or not site.weights[1]:
        return ()
    pads = explicit_pads(site)
    if pads is None or not all(len(a) <= LONGEST for a in kernel):
        return ()
    dilations = tuple(site.attr("dilations", (1,) * len(kernel)))
    c.windows.append(Window(c.node, kernel, pads, dilations))
    for k, labels in enumerate(kernel):
        if len(subsets(len(labels), *pads[k], dilations[k])) < 2:
            c.freeze(labels, Reason.SPATIAL_AXIS, f"{WHY}: its pads leave none out")
        c.recur(1, 2 + k)
    return kernel


def explicit_pads(site: Site) -> tuple[tuple[int, int], ...] | None:
    """(before, after) per spatial axis; None where they depend on a size that is not fixed."""
    rank = len(site.kernel)
    auto = site.attr("auto_pad", "NOTSET")
    if site.node.op_type == "ConvTranspose" and (site.attr("output_shape") or auto[:4] == "SAME"):
        return None
    if auto in ("NOTSET", ""):
        pads = site.attr("pads", (0,) * (2 * rank))
        return tuple(zip(pads[:rank], pads[rank:], strict=True))
    if auto == "VALID":
        return ((0, 0),) * rank
    if not _fixed(site):
        return None
    strides, dilations = (site.attr(n, (1,) * rank) for n in ("strides", "dilations"))
    total = [
        max(0, (out - 1) * stride + (size - 1) * dilation + 1 - have)
        for out, stride, size, dilation, have in zip(
            site.out_space, strides, site.kernel, dilations, site.in_shapes[0][2:], strict=True
        )
    ]
    less = [(n // 2, n - n // 2) for n in total]
    return tuple(less if auto == "SAME_UPPER" else [(b, a) for a, b in less])


def _fixed(site: Site) -> bool:
    """Whether SAME pads are the same at every size: strides of 1, or no symbol."""
    if site.fixed or all(stride == 1 for stride in site.attr("strides", (1,))):
        return True
    value = site.node.inputs[0]
    shape = None if value is None else value.shape
    return shape is not None and all(isinstance(d, int) for d in list(shape)[1:])


def subsets(size: int, before: int, after: int, dilation: int) -> tuple[Subset, ...]:
    """Positions of a kernel that a convolution without the others can have, smallest sets first.

    They are arithmetic progressions: first, first + step, ..., last. Position k reads the input
    at ``k * dilation - before``, so a kernel of these alone has the dilation ``step * dilation``,
    starts at ``first * dilation - before`` and ends as much earlier as `last` does; its pads
    can't be negative. The same holds for ConvTranspose, which writes there instead.
    Among sets of a size, those without gaps and near the middle come first.

    >>> subsets(3, 1, 1, 1)
    ((1,), (0, 1), (1, 2), (0, 2), (0, 1, 2))
    """
    earliest = before // dilation
    latest = size - 1 - after // dilation
    found = {
        tuple(range(first, last + 1, step))
        for first in range(min(earliest, size - 1) + 1)
        for last in range(max(first, latest), size)
        for step in range(1, last - first + 1 if last > first else 2)
        if (last - first) % step == 0
    }
    return tuple(sorted(found, key=lambda s: (len(s), s[-1] - s[0], abs(s[0] + s[-1] - size + 1))))


def uneven(c: Coupler, graph: Hypergraph) -> Iterator[Labels]:
    """Kernel axes that may not shrink after all: some of their positions can't leave, or not alone.

    A kernel's own positions must be all the groups of one hyperedge, each once.
    """
    edge_of = graph.edge_of_group()
    for window in c.windows:
        for labels in window.labels:
            groups = graph.trace.groups[labels]
            if (groups < 0).all():
                continue
            if (groups < 0).any() or not _whole(groups, edge_of, graph.dense()):
                yield labels


def _whole(groups: NDArray[np.int64], edge_of: NDArray[np.int64], sizes: Sequence[int]) -> bool:
    edges = np.unique(edge_of[groups])
    return len(edges) == 1 and len(np.unique(groups)) == len(groups) == sizes[edges[0]]


def allowed(c: Coupler, graph: Hypergraph) -> dict[int, tuple[Subset, ...]]:
    """Hyperedge -> the sets of its positions that every convolution which reads them can have."""
    edge_of = graph.edge_of_group()
    found: dict[int, tuple[Subset, ...]] = {}
    for window in c.windows:
        for labels, pads, dilation in zip(
            window.labels, window.pads, window.dilations, strict=True
        ):
            groups = graph.trace.groups[labels]
            if (groups < 0).any():
                continue
            e = int(edge_of[groups[0]])
            own = groups - graph.edges[e].first
            these = [
                tuple(sorted(own[list(s)].tolist())) for s in subsets(len(own), *pads, dilation)
            ]
            before = found.get(e)
            found[e] = tuple(s for s in these if before is None or s in set(before))
    return found


def with_windows(c: Coupler, assembled: Callable[[], Hypergraph]) -> Hypergraph:
    """The hypergraph of a settled coupler, with `subsets`; what proves uneven is frozen first."""
    graph = assembled()
    while wrong := list(uneven(c, graph)):
        for labels in wrong:
            c.freeze(labels, Reason.SPATIAL_AXIS, f"{WHY}: others can't leave")
        graph = assembled()
    return replace(graph, subsets=allowed(c, graph)) if c.windows else graph
