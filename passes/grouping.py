"""How convolutions become grouped ones: everything that a user can say about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunec.compiler.errors import UsageError
from prunec.passes.regroup.folds import parse_fold


@dataclass(frozen=True, slots=True)
class Grouping:
    """What is said of groups.

    conv: how many: G for every convolution that it divides, node or weight name -> G, the
    specification of one of CHOOSERS ("auto"), which chooses under the budget, or None. perm: how
    channels are put into blocks, of PERMUTATIONS. fold: of FOLDS: joint, one order of channels
    serves all convolutions that share them, so that no Gather is left but what its options allow;
    free, every convolution has its own best blocks; auto: joint, unless latency is budgeted or perm
    is no search. score: what a kernel
    is worth, of KERNEL_SCORES. max_per_group: channels in a group at most; says G where conv is
    None. min_width: channels in a group at least. max_groups: at most. depthwise: whether a group
    may be one channel. detect_groups: convolutions whose weights are 0 off some blocks become
    grouped ones, which loses nothing. detect_dead: channels that are always 0 leave, which loses
    nothing.
    """

    conv: int | str | Mapping[str, int] | None = None
    perm: str = "search"
    fold: str = "auto"
    score: str = "magnitude"
    max_per_group: int | None = None
    min_width: int = 1
    max_groups: int | None = None
    depthwise: bool = True
    detect_groups: bool = False
    detect_dead: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.conv, int) and (isinstance(self.conv, bool) or self.conv < 1):
            raise UsageError(f"--group-conv must be at least 1, not {self.conv}")
        parse_fold(self.fold)  # refuses what is none before any work is done
        for name in ("max_per_group", "min_width", "max_groups"):
            number = getattr(self, name)
            if number is not None and (not isinstance(number, int) or number < 1):
                raise UsageError(f"{name} must be a whole number of at least 1, not {number!r}")
        if self.conv is not None and self.max_per_group is not None:
            raise UsageError("--group-conv and --max-per-group both say how many groups; give one")

    @property
    def searched(self) -> bool:
        """Whether numbers of groups are chosen under the budget."""
        return isinstance(self.conv, str)

    @property
    def groups(self) -> bool:
        """Whether convolutions get groups by choice, and lose weights for it."""
        return self.conv is not None or self.max_per_group is not None

    @property
    def lossless(self) -> bool:
        """Whether anything is detected."""
        return self.detect_groups or self.detect_dead

    @property
    def active(self) -> bool:
        """Whether anything is to be done."""
        return self.groups or self.lossless

    @property
    def needs_budget(self) -> bool:
        """Whether nothing can be done without a budget."""
        return self.searched or not self.active

    def provenance(self) -> dict[str, Any]:
        """What the plan records, as JSON values; what differs from the defaults."""
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name in self.__slots__
            if (value := getattr(self, name)) != getattr(DEFAULT, name)
        }


DEFAULT = Grouping()
