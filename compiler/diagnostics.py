"""Facts about the model that a user should know: returned in results, never printed here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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
