"""Which recovery a run has."""

from __future__ import annotations

from prunec.compiler.errors import UsageError
from prunec.compiler.extensions import extended
from prunec.compiler.recovery import Recovery
from prunec.compiler.spec import parse
from prunec.passes.recovery import RECOVERIES

AUTO = "auto"
NONE = "none"
DEFAULT = "least-squares"


def chosen(recover: str | Recovery, has_data: bool) -> Recovery | None:
    """The component that a specification names, None for none.

    auto: least-squares where there is data. Raises UsageError for unknown components, and for one
    that needs data where there is none.
    """
    if isinstance(recover, str):
        if recover == NONE or (recover == AUTO and not has_data):
            return None
        rows = extended(RECOVERIES, "prunec.recoveries")
        made: Recovery = parse(DEFAULT if recover == AUTO else recover, rows, "recovery")
    else:
        made = recover
    if made.needs_data and not has_data:
        raise UsageError(f"recovery {made.name!r} needs data; give it with --data")
    return made
