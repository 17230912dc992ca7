"""The examples in the package's docstrings run as written."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
from package_tree import importable


@pytest.mark.parametrize("name", importable())
def test_examples_of(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # examples that write do it there
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert failed == 0
