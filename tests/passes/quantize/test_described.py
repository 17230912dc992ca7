"""The README has every component of quantisation, with its options and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from prunec.passes.quantize.quantisers import QUANTISERS
from prunec.passes.quantize.ranges import RANGES
from prunec.passes.quantize.rounding import ROUNDINGS

README = Path(__file__).parents[3] / "README.md"


@pytest.mark.parametrize("table", [QUANTISERS, RANGES, ROUNDINGS])
def test_components_and_their_options_are_in_the_readme(table: Mapping[str, type[Any]]) -> None:
    text = README.read_text()
    for name, cls in table.items():
        options = [f"{f.name}={str(f.default).lower()}" for f in fields(cls)]
        shown = name + (f"{{{','.join(options)}}}" if options else "")
        assert f"| `{shown}` |" in text, f"the README's table needs {shown}"
