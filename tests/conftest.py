"""What holds for all tests: the installed package is under test, random tests repeat."""

from __future__ import annotations

import importlib.util
import os

import pytest
from hypothesis import settings

# The folder prunec/ of the repository holds the face only. `python -m` puts it first on the path,
# where it hides an installed package: not in the processes that tests start,
os.environ["PYTHONSAFEPATH"] = "1"
settings.register_profile("prunec", deadline=None, derandomize=True)
settings.load_profile("prunec")


def pytest_configure() -> None:
    """Say in one line why nothing can be imported."""
    # and here it is said.
    if importlib.util.find_spec("prunec.compiler") is None:
        pytest.exit(
            "prunec.compiler is not installed, or hidden by the folder prunec/: run `make test`, "
            "or `pip install -e .`; with a plain `pip install .` start `pytest`, not "
            "`python -m pytest`",
            returncode=4,
        )
