"""Why channels can't leave: the kinds of barrier, each with what would take it away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Reason(Enum):
    """Kinds of barrier; the value is the name that users see."""

    GRAPH_INPUT = "graph-input"
    GRAPH_OUTPUT = "graph-output"
    UNKNOWN_OP = "unknown-op"
    UNSUPPORTED_FORM = "unsupported-form"
    DYNAMIC_SHAPE = "dynamic-shape"
    SPATIAL_AXIS = "spatial-axis"
    FIXED_AXIS = "fixed-axis"
    UNIT_AXIS = "unit-axis"
    NORM_STATISTICS = "norm-statistics"
    SOFTMAX_AXIS = "softmax-axis"
    REDUCED_AXIS = "reduced-axis"
    ORDERED_AXIS = "ordered-axis"
    SINGLE_CHANNEL = "single-channel"
    MERGE_OF_FREE_AXES = "merge-of-free-axes"
    WEIGHT_PRODUCT = "weight-product"
    PACKED_BLOCK = "packed-block"
    NO_WEIGHT = "no-weight"
    LAST_GROUP = "last-group"
    PROTECTED = "protected"

    @property
    def meaning(self) -> str:
        """What holds the channels."""
        return BARRIERS[self].meaning

    @property
    def remedy(self) -> str:
        """What would let the channels leave."""
        return BARRIERS[self].remedy

    @property
    def can_be_freed(self) -> bool:
        """Whether the user can do something about it."""
        return not self.remedy.startswith("nothing")


@dataclass(frozen=True, slots=True)
class Barrier:
    """What a reason says to users; the README's table is made of these."""

    meaning: str
    remedy: str


BARRIERS: Mapping[Reason, Barrier] = {
    Reason.GRAPH_INPUT: Barrier(
        "it is an axis of an input of the model, or meets one",
        "nothing: the caller feeds this shape",
    ),
    Reason.GRAPH_OUTPUT: Barrier(
        "it is an axis of an output of the model",
        "nothing while the caller reads this shape; dropping an output that nobody reads",
    ),
    Reason.UNKNOWN_OP: Barrier(
        "it meets an operator without a rule",
        "a rule for the operator: `--rules`, or an entry point of `prunec.rules`",
    ),
    Reason.UNSUPPORTED_FORM: Barrier(
        "the operator's rule can't follow the form in which it is used here",
        "a simpler form of the operator in the model, or a rule of your own (`--rules`)",
    ),
    Reason.DYNAMIC_SHAPE: Barrier(
        "a shape, an index or an amount depends on the data or is not known",
        "an export with constant shapes, indices or amounts; `--shape` where an input is symbolic",
    ),
    Reason.SPATIAL_AXIS: Barrier(
        "it is a position in space, in time or in the batch",
        "nothing: positions are no channels",
    ),
    Reason.FIXED_AXIS: Barrier(
        "it is an axis that no weight makes, or meets one",
        "nothing: there is no weight to slice on the other side",
    ),
    Reason.UNIT_AXIS: Barrier(
        "its axis has one channel",
        "nothing: an axis never loses its only channel",
    ),
    Reason.NORM_STATISTICS: Barrier(
        "a normalisation takes its mean or variance over it",
        "`--residual`: the statistics then run over the channels that stay",
    ),
    Reason.SOFTMAX_AXIS: Barrier(
        "a softmax runs over it",
        "`--residual`: the softmax then runs over the channels that stay",
    ),
    Reason.REDUCED_AXIS: Barrier(
        "a mean, maximum, minimum, product or norm runs over it",
        "`--residual`: the reduction then runs over the channels that stay",
    ),
    Reason.ORDERED_AXIS: Barrier(
        "the result depends on where a channel stands (ArgMax, TopK, CumSum, LRN)",
        "nothing: the positions themselves are the result",
    ),
    Reason.SINGLE_CHANNEL: Barrier(
        "this very channel is read by itself",
        "nothing: its reader would have no input",
    ),
    Reason.MERGE_OF_FREE_AXES: Barrier(
        "a reshape joins or splits several axes, of which one stays removable",
        "`--heads` where the other choice is an axis of attention heads",
    ),
    Reason.WEIGHT_PRODUCT: Barrier(
        "two weights are multiplied with each other along it",
        "an export in which their product is stored",
    ),
    Reason.PACKED_BLOCK: Barrier(
        "values are packed or scaled in blocks that stay whole",
        "a block size that divides what shall leave",
    ),
    Reason.NO_WEIGHT: Barrier(
        "no weight of a convolution, Gemm, MatMul or the like makes it",
        "nothing: there is nothing to slice",
    ),
    Reason.LAST_GROUP: Barrier(
        "its channels can leave only all together, and one group of each kind stays",
        "nothing: the branch would vanish",
    ),
    Reason.PROTECTED: Barrier(
        "a setting keeps it",
        "leaving out `--keep`, or matching it with `--only`",
    ),
}
