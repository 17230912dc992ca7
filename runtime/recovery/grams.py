"""Second moments of what every stored weight of the dense model multiplies."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import numpy as np

from prunec.compiler.errors import DataError
from prunec.compiler.gram import Gram
from prunec.compiler.stats import Stats
from prunec.passes.insert import values_by_name
from prunec.passes.recovery.moments import FloatArray
from prunec.passes.recovery.places import POSITIONS, Sampling, drawn
from prunec.passes.recovery.sites import Site, find_sites
from prunec.passes.recovery.storage import tensor_of
from prunec.runtime.data import DataSpec
from prunec.runtime.recovery.recover import Running
from prunec.runtime.recovery.samples import Samples
from prunec.runtime.recovery.walk import Walk
from prunec.runtime.subject import Subject

LARGEST = 6000  # columns; a Gram matrix of more takes 300 MB and as many seconds to factor

SAMPLES = 1024  # more say hardly more, and every layer runs them all


def collect_grams(
    subject: Subject,
    data: DataSpec,
    running: Running | None = None,
    *,
    positions: int = POSITIONS,
    columns: int = LARGEST,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Stats:
    """`Stats.grams` by node name, of at most `SAMPLES` samples, spread evenly over the data.

    positions: rows per sample at most; see `Sampling`.
    Contractions with more than `columns` inputs per output have none, nor have those that
    `find_sites` leaves alone. A weight that several nodes read has one per node. Raises DataError.
    """
    running = running or Running()
    samples = Samples(data, subject.model, judged=False)
    samples.draw(SAMPLES)
    sites, _ = find_sites(subject.model, subject.facts)
    walk = Walk(subject.model, samples, running.limit_bytes, running.provider, running.threads)
    sampling = Sampling.of(positions, samples.total, seed)
    walk.later = {use.x for site in sites for use in site.uses}
    values = values_by_name(subject.model.graph)
    grams: dict[str, Gram] = {}
    for number, site in enumerate(sites):
        tensor = tensor_of(values[site.weight.name])
        assert tensor is not None, site.weight.name
        matrix = site.uses[0].form.matrix(site.weight.read(tensor.numpy()))
        if matrix.shape[1] > columns:
            continue
        progress(f"measuring {number + 1} of {len(sites)}: {site.name}")
        for gram in _grams(subject, site, matrix, walk, samples, sampling):
            grams[gram.node] = gram
    return Stats(grams=grams, samples=samples.total)


def _grams(
    subject: Subject,
    site: Site,
    matrix: FloatArray,
    walk: Walk,
    samples: Samples,
    sampling: Sampling,
) -> Iterator[Gram]:
    groups, inputs, outputs = matrix.shape
    sums = {use.node: np.zeros((groups, inputs)) for use in site.uses}
    moments = {use.node: np.zeros((groups, inputs, inputs)) for use in site.uses}
    counts = dict.fromkeys(sums, 0)
    names = [name for use in site.uses for name in (use.x, use.y)]
    for batch, found in enumerate(walk.run(names)):
        for use in site.uses:
            x, shape = found[use.x], tuple(found[use.y].shape)
            places, rows = use.form.places(shape)
            most = max(1, -(-sampling.positions * samples.size // rows))
            seed = (sampling.seed, zlib.crc32(str(use.node.name).encode()), batch)
            spot = drawn(places, most, seed)
            flat = use.form.rows(x, shape, spot)
            sums[use.node] += flat.sum(axis=1)
            for g in range(groups):
                moments[use.node][g] += flat[g].T @ flat[g]
            counts[use.node] += flat.shape[1]
    for use in site.uses:
        if not np.isfinite(moments[use.node]).all():
            raise DataError(f"{use.x} is not finite on the calibration data: the model overflows")
        rank = len(subject.facts.shapes[use.x])
        channels = subject.facts.shapes[use.x][use.form.source_axis]
        yield Gram(
            node=str(use.node.name),
            weight=site.weight.name,
            source=(use.x, use.form.source_axis % rank),
            target=(use.y, use.form.target_axis % len(subject.facts.shapes[use.y])),
            sources=use.form.sources(channels, inputs),
            targets=np.arange(groups * outputs, dtype=np.int64).reshape(groups, outputs),
            moments=moments[use.node],
            sums=sums[use.node],
            matrix=matrix,
            rows=counts[use.node],
            intercept=len(site.uses) == 1 and use.slot is not None,
        )
