"""Win accuracy back: change weights of a pruned model so that it answers like the dense one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx_ir as ir

from prunec.compiler.plan import Plan
from prunec.compiler.recovery import Recovered, Recovery
from prunec.frontends.functions import inlined
from prunec.passes.insert import values_by_name
from prunec.passes.recovery.storage import store, tensor_of
from prunec.runtime.data import DataSpec
from prunec.runtime.recovery.bench import TwoModels
from prunec.runtime.recovery.samples import Samples
from prunec.runtime.subject import Subject
from prunec.runtime.trial import require_survival
from prunec.runtime.widen import runnable

LIMIT_BYTES = 2**31


@dataclass(frozen=True, slots=True)
class Running:
    """Where models run, and how many bytes of activations may be kept between layers."""

    provider: str = "cpu"
    threads: int = 1
    limit_bytes: int = LIMIT_BYTES


def recover(
    subject: Subject,
    plan: Plan,
    pruned: ir.Model,
    data: DataSpec | None,
    recovery: Recovery,
    running: Running | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[ir.Model, Recovered]:
    """A copy of `pruned` with other weights, and what was won on held-out samples.

    subject, plan: what `pruned` was made of; where the plan has groups, it is the masked model, and
    what is 0 off the blocks stays 0. Names, nodes, shapes and element types stay. Labels in
    the data are not looked at. Raises DataError, ModelError, UsageError.
    """
    running = running or Running()
    started = time.monotonic()
    stand = runnable(subject, inlined(pruned))
    slim = stand.pruned if stand.pruned is not pruned else pruned.clone()
    samples = None
    if data is not None:
        samples = Samples(data, stand.subject.model)
        require_survival(stand.subject.model, next(samples()))
    bench = TwoModels(
        stand.subject,
        slim,
        plan.mask(subject.graph),
        samples,
        values_by_name(pruned.graph).keys(),
        limit=running.limit_bytes,
        blocks={name: partition.sliced() for name, partition in plan.groups.items()},
        provider=running.provider,
        threads=running.threads,
        progress=progress,
    )
    found = recovery(bench)
    out = pruned.clone()
    old, new = values_by_name(slim.graph), values_by_name(out.graph)
    for name in sorted(bench.written):
        tensor = tensor_of(old[name])
        assert tensor is not None, name
        store(new[name], tensor.numpy())
    if samples is not None:
        found = replace(found, samples=samples.total, held=samples.judging)
    return out, replace(found, seconds=time.monotonic() - started)
