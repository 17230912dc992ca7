"""One pass over the layers of a pruned model, each held against what the dense layer gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from prunec.compiler.diagnostics import Diagnostic, Severity
from prunec.compiler.recovery import Array, Bench, Recovered, Repair
from prunec.passes.insert import values_by_name
from prunec.passes.recovery.blocks import blocked
from prunec.passes.recovery.clipped import behind_clip
from prunec.passes.recovery.dirt import changed
from prunec.passes.recovery.moments import FloatArray, Moments
from prunec.passes.recovery.norms import Affine, find_norms, refit_norm
from prunec.passes.recovery.places import Sampling
from prunec.passes.recovery.ridge import FLAT, Fit, Prior, ridge
from prunec.passes.recovery.rows import Rows, Target, line_up, rows_of, target_of
from prunec.passes.recovery.sites import Site, Use, find_sites, left_alone

UNEVEN = "which rows it reads depends on what is computed"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a sweep does. The fields are those of `LeastSquares`; penalties: () for the usual ones,
    FLAT alone moves intercepts only.
    """

    positions: int
    penalties: tuple[float, ...]
    residual: bool
    clipped: int
    columns: int
    refit: bool
    seed: int


def sweep(bench: Bench, how: Recipe) -> Recovered:
    """Solve every weight and every norm behind which something changed, in graph order.

    Each is fitted on inputs that the pruned model computes with all that was solved before it.
    """
    found, notes = find_sites(bench.pruned, bench.facts, bench.writable)
    sites = tuple(
        blocked(s, bench.blocks[s.weight.name]) if s.weight.name in bench.blocks else s
        for s in found
    )
    dirty = changed(bench.dense, bench.pruned, bench.graph, bench.mask, bench.blocks)
    targets = _targets(bench, how, sites)
    inside = {name for site in sites for use in site.uses for name in _inside(use)}
    steps: list[Site | Affine] = [
        site
        for site in sites
        if any(use.y in dirty or targets[str(use.node.name)].value in dirty for use in site.uses)
    ]
    steps += [n for n in find_norms(bench.pruned) if _is_refitted(n, dirty, inside, bench)]
    steps.sort(key=lambda step: step.place)
    solver = _Solver(bench, how, targets)
    for step in steps:
        bench.expect(*solver.values(step))
    repairs = []
    for number, step in enumerate(steps):
        bench.progress(f"recovering layer {number + 1} of {len(steps)}")
        done = solver.site(step) if isinstance(step, Site) else solver.norm(step)
        repairs += [] if done is None else [done]
    same = {node.name for node in bench.pruned.graph if dirty.isdisjoint(_made(node))}
    told = (note for note in notes if note.node not in same)
    return Recovered(tuple(repairs), (*told, *solver.notes))


def _made(node: ir.Node) -> list[str]:
    return [str(value.name) for value in node.outputs]


def _targets(bench: Bench, how: Recipe, sites: tuple[Site, ...]) -> dict[str, Target]:
    """By node."""
    values, shapes = values_by_name(bench.pruned.graph), bench.facts.shapes
    return {
        str(use.node.name): target_of(use, shapes, values, how.residual)
        for site in sites
        for use in site.uses
    }


def _inside(use: Use) -> Iterator[str]:
    """Values between a contraction and the end of its tail: norms there are folded in."""
    value = use.node.outputs[0]
    while value.name != use.tail.end:
        value = next(iter(value.uses()))[0].outputs[0]
        yield str(value.name)


def _is_refitted(norm: Affine, dirty: Set[str], inside: Set[str], bench: Bench) -> bool:
    own = [name for name in (norm.scale, norm.shift) if name]
    return norm.y in dirty and norm.y not in inside and all(map(bench.writable, own))


class _Solver:
    """What the steps of a sweep share. notes: grows. uneven: weights whose rows differ in number
    between the models; grows.
    """

    def __init__(self, bench: Bench, how: Recipe, targets: Mapping[str, Target]) -> None:
        self.bench, self.how, self.targets = bench, how, targets
        self.sampling = Sampling.of(how.positions, bench.samples_to_fit, how.seed)
        self.notes: list[Diagnostic] = []
        self.uneven: set[str] = set()

    def values(self, step: Site | Affine) -> tuple[list[str], list[str]]:
        """Names of what is asked of the dense and of the pruned model."""
        if isinstance(step, Affine):
            return [step.y], [step.y]
        own = [self.targets[str(use.node.name)] for use in step.uses]
        pruned = [use.x for use in step.uses]
        return [t.value for t in own], pruned + [name for t in own for name in t.others]

    def norm(self, step: Affine) -> Repair | None:
        """Scale and shift of each channel; None where the models have other rows."""
        found = refit_norm(self.bench, step, self.sampling, self.how.penalties, self.how.refit)
        if found is None:
            self.notes.append(left_alone(step.node, UNEVEN))
            return None
        fit, new = found
        self.bench.write(new)
        return repair_of(str(step.node.name), step.node.op_type, fit, np.ones_like(fit.after))

    def site(self, site: Site) -> Repair | None:
        """A weight, with the intercept where there is room for one; None as for `norm`."""
        first, alone = site.uses[0], len(site.uses) == 1
        weight = site.weight.read(self.bench.contents(site.weight.name))
        whole = first.form.matrix(weight)
        groups, inputs, outputs = whole.shape
        narrow = inputs > self.how.columns
        shape = (groups * outputs, 1, 1) if narrow else whole.shape

        def stored(matrix: FloatArray) -> Array:
            grown = whole * matrix.reshape(groups, 1, outputs) if narrow else matrix
            return first.form.stored(grown, weight.shape).astype(weight.dtype)

        def rounded(matrix: FloatArray) -> FloatArray:
            return matrix if narrow else first.form.matrix(stored(matrix))

        prior = Prior(
            matrix=np.ones(shape) if narrow else whole,
            shift=first.bias.reshape(shape[0], shape[2]) if alone else np.zeros(shape[::2]),
            intercept=alone and first.slot is not None,
            rounded=rounded,
        )
        fit = self._fit(site, prior, narrow)
        if fit is None:
            self.notes.append(left_alone(first.node, UNEVEN))
            return None
        gain = _gain(first, self.targets[str(first.node.name)]).reshape(shape[0], shape[2])
        useful = (gain != 0) & np.isfinite(fit.line.shift)
        line = fit.line.where(useful, replace(fit.line, matrix=prior.matrix, shift=prior.shift))
        new: dict[str, Array] = {site.weight.name: site.weight.write(stored(line.matrix))}
        if first.slot is not None and prior.intercept:
            old = self.bench.contents(first.slot.name)
            delta = _by_channel(site, (line.shift - prior.shift).reshape(-1)) * first.slot.gain
            new[first.slot.name] = old.astype(np.float64) + delta.reshape(old.shape)
        self.bench.write(new)
        if narrow and self.how.columns:
            text = f"{inputs} inputs per output: the weight was rescaled per output, not solved"
            self.notes.append(Diagnostic("rescaled", str(first.node.name), text, Severity.INFO))
        return repair_of(str(first.node.name), first.node.op_type, fit, gain)

    def _fit(self, site: Site, prior: Prior, narrow: bool) -> Fit | None:
        first, alone = site.uses[0], len(site.uses) == 1
        sums = [Moments.empty(*prior.matrix.shape) for _ in range(2)]
        for rows, use, held in self._rows(site, narrow):
            y = rows.targets()
            sums[held].add(rows.x, y if alone else y - use.bias.reshape(len(y), 1, -1))
        if site.name in self.uneven:
            return None
        fit, held_out = sums
        start = ridge(fit, held_out, prior, self.how.penalties, self.how.refit)
        bounds = self.targets[str(first.node.name)].bounds
        if bounds is None or not alone or not self.how.clipped:
            return start

        def stream() -> Iterator[tuple[Rows, bool]]:
            return ((rows, held) for rows, _, held in self._rows(site, narrow))

        return behind_clip(start, prior, bounds, stream, self.how.clipped)

    def _rows(self, site: Site, narrow: bool) -> Iterator[tuple[Rows, Use, bool]]:
        """All rows of all uses. narrow: outputs without their bias, in place of the inputs."""
        dense, pruned = self.values(site)
        if narrow:
            pruned = pruned + [use.y for use in site.uses]
        written = [site.weight.name, *(u.slot.name for u in site.uses if u.slot is not None)]
        for batch in self.bench.run(dense, pruned, written):
            for use in site.uses:
                target = self.targets[str(use.node.name)]
                if not line_up(use, target, batch):
                    self.uneven.add(site.name)  # and go on: a run has to be taken to its end
                    continue
                yield rows_of(use, target, batch, self.sampling, narrow), use, batch.held


def _by_channel(site: Site, outputs: FloatArray) -> FloatArray:
    """(M,) numbers of outputs in the order of their channels."""
    return outputs if site.order is None else outputs[np.argsort(site.order)]


def _gain(use: Use, target: Target) -> FloatArray:
    """(channels,) by how much the output moves the target."""
    return np.ones_like(use.bias) if target.value == use.y else use.tail.scale * target.sign


def repair_of(name: str, kind: str, fit: Fit, gain: FloatArray) -> Repair:
    """The entry of the report. gain: (G, M) from the units of the fit to those of the target."""
    weights = np.ones_like(gain) if fit.behind else gain**2
    spread, before, after = (
        float((e * weights).sum()) for e in (fit.spread, fit.before, fit.after)
    )
    finite = fit.penalties[fit.penalties < FLAT]
    ridge = float(np.median(finite)) if finite.size else None
    return Repair(name, kind, _relative(before, spread), _relative(after, spread), ridge)


def _relative(error: float, spread: float) -> float:
    return float(np.sqrt(error / spread)) if spread > 0 else 0.0
