"""Clustered: channels share few ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from prunec.compiler.errors import UsageError
from prunec.compiler.quantisation import FloatArray, Grid, IntArray, Quantiser
from prunec.compiler.spec import suggest
from prunec.passes.quantize.quantisers.line import Line
from prunec.passes.quantize.quantisers.power_of_two import PowerOfTwo
from prunec.passes.quantize.quantisers.scaler import Scaler

INNER: Mapping[str, Quantiser] = MappingProxyType(
    {"scaler": Scaler(), "line": Line(), "power-of-two": PowerOfTwo()}
)


@dataclass(frozen=True, slots=True)
class Clustered:
    """Per-channel ranges in few clusters (Ward's linkage), each channel with its cluster's.

    groups: how many clusters; there are fewer where channels are. of: the quantiser that turns a
    range into a grid. cover: a cluster's range holds those of its channels; as published it is
    their mean, which saturates the wider half. Source: mdpi2022, groupwise quantisation.
    """

    name: ClassVar[str] = "clustered"
    groups: int = 4
    of: str = "scaler"
    cover: bool = False

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise UsageError(f"quantiser 'clustered': groups must be at least 1, not {self.groups}")
        if self.of not in INNER:
            raise UsageError(
                f"quantiser 'clustered': unknown quantiser {self.of!r}{suggest(self.of, INNER)}"
            )

    def __call__(
        self, low: FloatArray, high: FloatArray, bits: int, axis: int | None = None
    ) -> Grid:
        """The grid for values between low and high."""
        if self.of != "line":  # a symmetric quantiser has one parameter per channel: its scale
            largest = np.maximum(np.abs(low), np.abs(high))
            low, high = np.where(low < 0, -largest, 0.0), largest
        member = clusters(low, high, self.groups)
        pair = [_merged(side, member, self.cover, sign) for side, sign in ((low, -1), (high, 1))]
        return INNER[self.of](pair[0], pair[1], bits, axis)

    def alone(self) -> Quantiser:
        """The quantiser inside."""
        return INNER[self.of]


def _merged(ends: FloatArray, member: IntArray, cover: bool, sign: int) -> FloatArray:
    """(n,) ends of ranges, each replaced by its cluster's. sign: 1 for upper ends, -1 for lower."""
    number = 1 + int(member.max())
    if cover:
        outer = np.full(number, -np.inf)
        np.maximum.at(outer, member, sign * ends)
        return np.asarray(sign * outer[member])
    means = np.bincount(member, ends, number) / np.bincount(member, minlength=number)
    return np.asarray(means[member])


def clusters(low: FloatArray, high: FloatArray, groups: int) -> IntArray:
    """(n,) the cluster of each range, 0 ... at most groups - 1, by Ward's linkage of (low, high).

    Complexity O(n^2). Source: scikit-learn's AgglomerativeClustering(linkage="ward"), whose
    partition this is.
    """
    if len(low) <= 1 or groups == 1:
        return np.zeros(len(low), np.int64)
    from scipy.cluster.hierarchy import fcluster, linkage  # noqa: PLC0415 (slow to import)

    tree = linkage(np.stack([low, high], axis=1), method="ward")
    return np.asarray(fcluster(tree, groups, criterion="maxclust"), np.int64) - 1
