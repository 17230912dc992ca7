"""What a hyperedge is worth as a whole: one file and one row each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from prunec.passes.worth.equal import Equal
from prunec.passes.worth.gator import Gator
from prunec.passes.worth.share import Share
from prunec.passes.worth.worth import Worth

WORTHS: Mapping[str, type[Worth]] = MappingProxyType(
    {"share": Share, "equal": Equal, "gator": Gator}
)
