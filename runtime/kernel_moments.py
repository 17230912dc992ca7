"""Second moments, channel by channel, of what the kernels of convolutions multiply."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from prunec.compiler.errors import DataError
from prunec.passes.recovery.places import Sampling, drawn
from prunec.passes.recovery.sites import Use, find_sites
from prunec.passes.regroup.blocks import FloatArray
from prunec.passes.regroup.scores import KernelEvidence, KernelScore
from prunec.passes.regroup.sites import Site
from prunec.runtime.inputs import Array
from prunec.runtime.recovery.recover import Running
from prunec.runtime.recovery.samples import Samples
from prunec.runtime.recovery.walk import Walk
from prunec.runtime.subject import Subject

if TYPE_CHECKING:
    from prunec.runtime.compile import Progress, Settings


class Placed(Protocol):
    """The options of a score that needs moments."""

    samples: int
    positions: int
    seed: int


def collect(
    subject: Subject,
    sites: Sequence[Site],
    score: KernelScore,
    settings: Settings,
    progress: Progress,
) -> dict[str, KernelEvidence]:
    """Weight -> moments, over samples that are spread evenly over the data. Raises DataError.

    A weight that several convolutions read has the sum over them.
    """
    options = cast(Placed, score)
    assert settings.data is not None
    samples = Samples(settings.data, subject.model, judged=False)
    samples.draw(options.samples)
    running = Running(settings.provider, settings.threads)
    walk = Walk(subject.model, samples, running.limit_bytes, running.provider, running.threads)
    sampling = Sampling.of(options.positions, samples.total, options.seed)
    wanted = {site.weight: site.shape for site in sites}
    found, _ = find_sites(subject.model, subject.facts)
    own = [site for site in found if site.weight.name in wanted]
    walk.later = {use.x for site in own for use in site.uses}
    out: dict[str, KernelEvidence] = {}
    for number, site in enumerate(own):
        progress(f"measuring {number + 1} of {len(own)}: {site.name}")
        channels = wanted[site.weight.name][1]
        total, count = np.zeros(()), 0
        for batch, values in enumerate(walk.run([n for use in site.uses for n in (use.x, use.y)])):
            for use in site.uses:
                seed = (sampling.seed, zlib.crc32(str(use.node.name).encode()), batch)
                rows = _rows(use, values[use.x], values[use.y], sampling, samples.size, seed)
                by_channel = rows.reshape(len(rows), channels, -1).transpose(1, 2, 0)
                total = total + by_channel @ by_channel.transpose(0, 2, 1)
                count += len(rows)
        out[site.weight.name] = KernelEvidence(moments=total / max(count, 1))
    return out


def _rows(
    use: Use, x: Array, y: Array, sampling: Sampling, size: int, seed: Sequence[int]
) -> FloatArray:
    """(R, C k) inputs of one output at drawn places, the k of a channel side by side.

    Raises DataError where they are not finite.
    """
    if not np.isfinite(x).all():
        raise DataError(f"{use.x} is not finite on the calibration data: the model overflows")
    places, rows = use.form.places(y.shape)
    most = max(1, -(-sampling.positions * size // rows))
    flat = use.form.rows(x, y.shape, drawn(places, most, seed))[0]
    channels = x.shape[use.form.source_axis]
    order = np.argsort(use.form.sources(channels, flat.shape[1])[0], kind="stable")
    return np.asarray(flat[:, order])
