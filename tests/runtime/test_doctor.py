from __future__ import annotations

import importlib
import importlib.metadata
import json
from typing import Any

import pytest

from prunec.runtime.doctor import Finding, Level, diagnose


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Versions to pretend, by distribution; None: not installed."""
    pretended: dict[str, str | None] = {}
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name not in pretended:
            return real(name)
        found = pretended[name]
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)
    return pretended


def about(topic: str) -> list[Finding]:
    return [finding for finding in diagnose() if finding.topic == topic]


def test_a_working_installation_has_no_error() -> None:
    errors = [finding for finding in diagnose() if finding.level is Level.ERROR]
    assert errors == []


def test_cbc_is_run_not_only_found() -> None:
    assert about("cbc") == [
        Finding(Level.OK, "cbc", "the CBC that pulp bundles solves a test problem")
    ]


def test_a_solver_that_does_not_run_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pulp = importlib.import_module("pulp")

    def broken(*args: Any, **kwargs: Any) -> None:
        raise pulp.PulpSolverError("cbc: permission denied")

    monkeypatch.setattr(pulp.LpProblem, "solve", broken)
    (finding,) = about("cbc")
    assert finding.level is Level.ERROR
    assert "permission denied" in finding.message
    assert finding.remedy == "pip install --force-reinstall pulp"


def test_both_runtimes_together_are_an_error_with_the_commands_to_mend_it(
    installed: dict[str, str | None],
) -> None:
    installed |= {"onnxruntime": "1.20.0", "onnxruntime-gpu": "1.21.0"}
    clash = [f for f in about("onnxruntime") if f.level is Level.ERROR]
    assert [finding.remedy for finding in clash] == [
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'prunec[gpu]'",
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'prunec[cpu]'",
    ]
    assert all("onnxruntime 1.20.0 and onnxruntime-gpu 1.21.0" in f.message for f in clash)


def test_no_runtime_is_a_warning_that_names_both_extras(
    installed: dict[str, str | None],
) -> None:
    installed |= {"onnxruntime": None, "onnxruntime-gpu": None}
    (finding,) = about("onnxruntime")
    assert finding.level is Level.WARN
    assert "prunec[cpu]" in finding.remedy
    assert "prunec[gpu]" in finding.remedy
    assert about("providers") == []


def test_a_gpu_runtime_without_cuda_is_an_error(
    installed: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ort = pytest.importorskip("onnxruntime")
    installed |= {"onnxruntime": None, "onnxruntime-gpu": "1.21.0"}
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    (finding,) = about("cuda")
    assert finding.level is Level.ERROR


def test_missing_highs_is_a_warning(installed: dict[str, str | None]) -> None:
    installed["highspy"] = None
    (finding,) = about("highs")
    assert (finding.level, finding.remedy) == (Level.WARN, "pip install 'prunec[highs]'")


def test_a_package_that_cannot_be_imported_is_an_error(
    installed: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def import_module(name: str, package: str | None = None) -> Any:
        if name == "torch":
            raise OSError("libcudart.so: cannot open shared object file")
        return real(name, package)

    installed["torch"] = "2.4.0"
    monkeypatch.setattr(importlib, "import_module", import_module)
    (finding,) = about("torch")
    assert finding.level is Level.ERROR
    assert "libcudart.so" in finding.message


def test_findings_become_json() -> None:
    shown = json.loads(json.dumps([finding.to_dict() for finding in diagnose()]))
    assert {row["level"] for row in shown} <= {"ok", "warn", "error"}
    assert {"python", "numpy", "onnx", "onnx-ir", "pulp", "cbc", "highs", "cores"} <= {
        row["topic"] for row in shown
    }
