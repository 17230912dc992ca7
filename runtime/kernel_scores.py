"""What each kernel of a convolution is worth when its channels are put into groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from prunec.compiler.errors import MissingDependencyError, UsageError
from prunec.passes.recovery.storage import tensor_of
from prunec.passes.regroup.blocks import FloatArray
from prunec.passes.regroup.scores import KernelEvidence, KernelScore, kernel_score
from prunec.passes.regroup.sites import Site, stored_values
from prunec.runtime.subject import Subject

if TYPE_CHECKING:
    from prunec.runtime.compile import Progress, Settings

Found = Mapping[str, KernelEvidence]  # by weight
NOTHING = KernelEvidence()


def kernel_scores(
    slim: Subject, sites: Sequence[Site], spec: str, settings: Settings, progress: Progress
) -> dict[str, FloatArray]:
    """Weight -> (F, C) scores of the sliced model, finite and not negative.

    spec: a row of KERNEL_SCORES, with options. Raises UsageError where it needs data and there is
    none, DataError, ModelError, MissingDependencyError.
    """
    score = kernel_score(spec)
    if score.needs and settings.data is None:
        raise UsageError(f"--group-score {score.name} needs data; give it with --data")
    found = EVIDENCE[score.needs](slim, sites, score, settings, progress) if sites else {}
    stored = stored_values(slim.model)
    out = {}
    for site in sites:
        tensor = tensor_of(stored[site.weight])
        assert tensor is not None, site.weight
        out[site.weight] = score(tensor.numpy().astype(np.float64), found.get(site.weight, NOTHING))
    return out


def _nothing(
    slim: Subject, sites: Sequence[Site], score: KernelScore, settings: Settings, progress: Progress
) -> Found:
    return {}


def _moments(
    slim: Subject, sites: Sequence[Site], score: KernelScore, settings: Settings, progress: Progress
) -> Found:
    from prunec.runtime.kernel_moments import collect

    return collect(slim, sites, score, settings, progress)


def _gradients(
    slim: Subject, sites: Sequence[Site], score: KernelScore, settings: Settings, progress: Progress
) -> Found:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"--group-score {score.name} needs torch: pip install 'prunec[torch]'"
        ) from error
    from prunec.runtime.kernel_gradients import collect

    return collect(slim, sites, score, settings, progress)


EVIDENCE: Mapping[
    str, Callable[[Subject, Sequence[Site], KernelScore, Settings, Progress], Found]
] = {"": _nothing, "moments": _moments, "gradients": _gradients, "squares": _gradients}
