"""What a hyperedge is worth as a whole: one file and one row each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from prunec.compiler.spec import parse
from prunec.passes.worth.equal import Equal
from prunec.passes.worth.gator import Gator
from prunec.passes.worth.share import Share
from prunec.passes.worth.sum import Sum
from prunec.passes.worth.worth import Worth

WORTHS: Mapping[str, type[Worth]] = MappingProxyType(
    {"share": Share, "sum": Sum, "equal": Equal, "gator": Gator}
)


def parse_worth(text: str) -> Worth | None:
    """The row that `text` names; None for "auto", which leaves it to the criterion.

    Raises UsageError.
    """
    return None if text.strip() == "auto" else parse(text, WORTHS, "worth")
