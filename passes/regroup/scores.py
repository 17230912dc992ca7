"""What a kernel of a convolution is worth when its channels are put into blocks: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np

from prunec.compiler.errors import UsageError
from prunec.compiler.spec import parse
from prunec.passes.criteria.fisher import check_options
from prunec.passes.regroup.blocks import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class KernelEvidence:
    """What data says of a weight (F, C, *K); fields that nobody asked for are None.

    moments: (C, k, k) mean over places of ``x_c x_c^T``, where x_c holds the k inputs that one
    kernel over channel c multiplies. mean_abs, mean_square: as the weight, of gradients of the loss
    by it: their sizes over batches, their squares over samples.
    """

    moments: FloatArray | None = None
    mean_abs: FloatArray | None = None
    mean_square: FloatArray | None = None


class KernelScore(Protocol):
    """A row of KERNEL_SCORES; `needs` names the evidence it reads, "" for none."""

    @property
    def name(self) -> str:
        """What options call it."""
        ...

    @property
    def needs(self) -> str:
        """A row of EVIDENCE in runtime/kernel_scores.py, or ""."""
        ...

    def __call__(self, weight: FloatArray, evidence: KernelEvidence) -> FloatArray:
        """weight: (F, C, *K). Returns (F, C), >= 0; higher = keep."""
        ...


@dataclass(frozen=True, slots=True)
class Magnitude:
    """Frobenius norm of each kernel, as published; normalise: over that of the whole weight."""

    name: ClassVar[str] = "magnitude"
    needs: ClassVar[str] = ""
    normalise: bool = False

    def __call__(self, weight: FloatArray, evidence: KernelEvidence) -> FloatArray:
        """(F, C)."""
        norms = np.sqrt(_per_kernel(np.square(weight)))
        whole = float(np.linalg.norm(norms)) if self.normalise else 1.0
        return norms / whole if whole else norms


@dataclass(frozen=True, slots=True)
class Activation:
    """Mean energy ``w' M w`` of what a kernel w adds to its output; M from calibration data.

    What an output loses in mean square when it stops reading a channel, as far as channels are not
    correlated. samples, positions: how many, and places of each that are looked at; seed: of their
    draw.
    """

    name: ClassVar[str] = "activation"
    needs: ClassVar[str] = "moments"
    samples: int = 256
    positions: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for key, least in (("samples", 1), ("positions", 1), ("seed", 0)):
            if getattr(self, key) < least:
                raise UsageError(f"kernel score 'activation': {key} must be at least {least}")

    def __call__(self, weight: FloatArray, evidence: KernelEvidence) -> FloatArray:
        """(F, C), in squares of the output's unit."""
        assert evidence.moments is not None
        flat = weight.reshape(*weight.shape[:2], -1).swapaxes(0, 1)  # (C, F, k)
        energies = ((flat @ evidence.moments) * flat).sum(2).T
        return np.asarray(np.maximum(energies, 0.0))  # rounding can leave less


@dataclass(frozen=True, slots=True)
class Taylor:
    """Sum over a kernel of ``|w g|``, g the gradient of the loss by w; as published.

    g is that of a batch, the result a mean over batches. Options as of the criterion taylor.
    """

    name: ClassVar[str] = "taylor"
    needs: ClassVar[str] = "gradients"
    samples: int = 512
    batch: int = 64
    labels: str = "auto"
    targets: str = "argmax"
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self.name, self.samples, self.batch, self.labels, self.targets, self.seed)

    def __call__(self, weight: FloatArray, evidence: KernelEvidence) -> FloatArray:
        """(F, C), in units of the loss."""
        assert evidence.mean_abs is not None
        return _per_kernel(np.abs(weight) * evidence.mean_abs)


@dataclass(frozen=True, slots=True)
class Fisher:
    """Sum over a kernel of ``(w g)^2 / 2``, g the gradient of one sample's loss by w.

    What the loss gains, to second order, when the kernel leaves, with the diagonal of the Fisher
    information for the Hessian. Options as of the criterion fisher.
    """

    name: ClassVar[str] = "fisher"
    needs: ClassVar[str] = "squares"
    samples: int = 512
    batch: int = 16
    labels: str = "auto"
    targets: str = "sketch"
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self.name, self.samples, self.batch, self.labels, self.targets, self.seed)

    def __call__(self, weight: FloatArray, evidence: KernelEvidence) -> FloatArray:
        """(F, C), in units of the loss."""
        assert evidence.mean_square is not None
        return _per_kernel(np.square(weight) * evidence.mean_square) / 2


KERNEL_SCORES: Mapping[str, type[KernelScore]] = MappingProxyType(
    {"magnitude": Magnitude, "activation": Activation, "taylor": Taylor, "fisher": Fisher}
)


def kernel_score(spec: str) -> KernelScore:
    """The component of a specification such as ``taylor{samples=64}``. Raises UsageError."""
    return parse(spec, KERNEL_SCORES, "kernel score")


def _per_kernel(numbers: FloatArray) -> FloatArray:
    """(F, C) sums over the kernels of (F, C, *K)."""
    return np.asarray(numbers.reshape(*numbers.shape[:2], -1).sum(2))
