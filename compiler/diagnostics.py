"""Facts about the model that a user should know: returned in results, never printed here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from prunec.compiler.reasons import Reason


class Severity(Enum):
    """How much a diagnostic matters."""

    INFO = "info"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One fact: a stable code, the node it concerns (name, or empty) and a sentence."""

    code: str
    node: str
    message: str
    severity: Severity = Severity.WARNING

    def __str__(self) -> str:
        where = f" {self.node}:" if self.node else ""
        return f"{self.severity.value}[{self.code}]{where} {self.message}"

    def to_dict(self) -> dict[str, str]:
        """JSON values."""
        return {
            "code": self.code,
            "node": self.node,
            "severity": self.severity.value,
            "message": self.message,
        }


def assumed_sizes(bound: Mapping[str, int], computed: frozenset[str]) -> Iterator[Diagnostic]:
    """Sizes that depend on the data, for which costs take a number.

    bound: dimension -> number (`Facts.bound`). computed: names of values that nodes compute.
    """
    sizes = {name: n for name, n in bound.items() if name.rpartition(":")[0] in computed}
    if sizes:
        name, number = next(iter(sizes.items()))
        rest = f" (and {len(sizes) - 1} more such)" if len(sizes) > 1 else ""
        yield Diagnostic(
            "assumed-size",
            "",
            f"the size of axis {name} depends on the data{rest}; costs behind it take {number}",
            Severity.INFO,
        )


def inexact_nodes(nodes: Mapping[str, tuple[Reason, str]]) -> Iterator[Diagnostic]:
    """What removal changes besides the removed channels; nothing where it is exact.

    nodes: name -> reason and text, in graph order.
    """
    if not nodes:
        return
    kinds = Counter(reason.value for reason, _ in nodes.values())
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    each, them = ("node works", "it") if len(nodes) == 1 else ("nodes work", "them")
    yield Diagnostic(
        "inexact",
        "" if len(nodes) > 1 else next(iter(nodes)),
        f"{len(nodes)} {each} on the channels that stay ({counts}): the result is proven against "
        f"the dense graph with {them} run on the kept channels alone",
        Severity.INFO,
    )


def slow_additions(nodes: Sequence[str]) -> Iterator[Diagnostic]:
    """Decoupled additions that are estimated to cost more time than they save."""
    if nodes:
        what = "an addition takes" if len(nodes) == 1 else f"{len(nodes)} additions take"
        yield Diagnostic(
            "slow-join",
            nodes[0] if len(nodes) == 1 else "",
            f"by estimate {what} longer to bring operands to the same channels than the channels "
            "left out save; filling these up would break the budget",
            Severity.INFO,
        )
