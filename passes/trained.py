"""What closes channels while the weights learn: rows of ``prunec train --by``."""

from __future__ import annotations

from collections.abc import Mapping

from prunec.passes.criteria.gate import Gate
from prunec.passes.masks.masks import Masks

TRAINED: Mapping[str, type[Gate | Masks]] = {"gate": Gate, "masks": Masks}
