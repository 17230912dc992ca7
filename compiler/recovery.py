"""What a recovery is, and what it is given to work with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.diagnostics import Diagnostic
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.partition import Partition

Array = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Values of both models on the same samples.

    dense: of the dense model, only the channels that the pruned one has. pruned: of the pruned
    model as it is by now. held: these samples judge, nothing is fitted to them.
    """

    number: int
    samples: int
    held: bool
    dense: Mapping[str, Array]
    pruned: Mapping[str, Array]


class Bench(Protocol):
    """Two models side by side: what a recovery measures with, and what it changes.

    facts, graph, mask: of the dense model; mask: (number_of_groups + 1,) True = kept.
    """

    @property
    def dense(self) -> ir.Model:
        """The dense model."""
        ...

    @property
    def pruned(self) -> ir.Model:
        """The pruned model with everything that was written so far."""
        ...

    @property
    def facts(self) -> Facts:
        """Of the dense model."""
        ...

    @property
    def graph(self) -> Hypergraph:
        """Of the dense model."""
        ...

    @property
    def mask(self) -> Mask:
        """(number_of_groups + 1,) True = kept."""
        ...

    @property
    def blocks(self) -> Mapping[str, Partition]:
        """Stored weights of `pruned` that are 0 off these blocks, and stay so; over its axes."""
        ...

    def draw(self, most: int) -> None:
        """Take at most so many samples, spread evenly over the data; before anything is run."""
        ...

    def mirror(self) -> None:
        """Take every image twice, once turned left to right. Raises DataError without images."""
        ...

    def writable(self, name: str) -> bool:
        """Whether a stored tensor can be changed; one inside of a function can't."""
        ...

    def expect(self, dense: Sequence[str], pruned: Sequence[str]) -> None:
        """Announce values that `run` will be asked for: they are not forgotten until then."""
        ...

    @property
    def samples_to_fit(self) -> int:
        """How many samples there are to fit to."""
        ...

    def run(
        self, dense: Sequence[str], pruned: Sequence[str], changing: Sequence[str] = ()
    ) -> Iterator[Batch]:
        """Values of both models by name, batch by batch; take them all.

        changing: stored tensors that will be written next. Raises ModelError, DataError.
        """
        ...

    def contents(self, name: str) -> Array:
        """A stored tensor of the pruned model, as it is by now."""
        ...

    def write(self, weights: Mapping[str, Array]) -> None:
        """Replace stored tensors of the pruned model; shape and element type stay."""
        ...

    def progress(self, text: str, /) -> None:
        """Say what is being done."""
        ...


@dataclass(frozen=True, slots=True)
class Repair:
    """What became of one layer.

    layer: the node. before, after: root of the squared error over that of the dense values about
    their means, on samples that nothing was fitted to; after plain slicing and after recovery.
    ridge: the penalty that was chosen, relative to the mean square of the inputs; None where the
    weights stayed and only a shift was fitted, or nothing.
    """

    layer: str
    kind: str
    before: float
    after: float
    ridge: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "layer": self.layer,
            "kind": self.kind,
            "before": self.before,
            "after": self.after,
            "ridge": self.ridge,
        }


@dataclass(frozen=True, slots=True)
class Recovered:
    """The evidence of a recovery. samples, held: how many were used, and how many of them judged.

    seconds: what it took.
    """

    repairs: tuple[Repair, ...]
    diagnostics: tuple[Diagnostic, ...] = ()
    samples: int = 0
    held: int = 0
    seconds: float = field(default=0.0, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "samples": self.samples,
            "held_out": self.held,
            "seconds": self.seconds,
            "layers": [repair.to_dict() for repair in self.repairs],
        }


class Recovery(Protocol):
    """A row of `RECOVERIES`: a frozen dataclass whose fields are its options."""

    name: ClassVar[str]
    needs_data: ClassVar[bool]

    def __call__(self, bench: Bench) -> Recovered:
        """Change weights of `bench.pruned` through `bench.write`. Raises DataError, ModelError."""
        ...
