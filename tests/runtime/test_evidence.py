from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from prunec.compiler.errors import MissingDependencyError, UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.stats import Stats
from prunec.passes.criteria import CRITERIA
from prunec.passes.criteria.fisher import Fisher
from prunec.passes.options import Options
from prunec.runtime.compile import Settings, calibrate
from prunec.runtime.data import DataSpec
from prunec.runtime.evidence import COLLECTORS
from prunec.runtime.subject import open_model
from prunec.tools.demo import DIGITS


@dataclass(frozen=True)
class Asking:
    """Needs what nobody collects."""

    name: ClassVar[str] = "asking"
    needs: ClassVar[str] = "gradient"

    def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> np.ndarray:
        raise AssertionError


def test_every_criterion_needs_nothing_or_a_row() -> None:
    assert {row.needs for row in CRITERIA.values()} - {""} <= COLLECTORS.keys()


def test_evidence_that_nothing_collects_is_refused() -> None:
    with pytest.raises(UsageError, match="'gradient'; did you mean 'gradients'"):
        calibrate(open_model(DIGITS), Options(Asking()), Settings())


@pytest.mark.parametrize("name", sorted(n for n, row in CRITERIA.items() if row.needs))
def test_without_data_there_is_no_evidence(name: str) -> None:
    with pytest.raises(UsageError, match=f"criterion '{name}' needs data; give it with --data"):
        calibrate(open_model(DIGITS), Options(CRITERIA[name]()), Settings())


def test_a_criterion_that_needs_nothing_gets_nothing() -> None:
    assert calibrate(open_model(DIGITS), Options(), Settings()) is None


def test_without_torch_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, archive: Path, model: ir.Model
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    options, settings = Options(Fisher()), Settings(data=DataSpec(str(archive)))
    with pytest.raises(
        MissingDependencyError, match=r"'fisher' needs torch: pip .*prunec\[torch\]"
    ):
        calibrate(open_model(model), options, settings)
