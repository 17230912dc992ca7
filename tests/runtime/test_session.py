from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from prunec.compiler.errors import MissingDependencyError, ModelError, UsageError
from prunec.frontends.onnx import save, to_proto
from prunec.runtime.inputs import random_feeds
from prunec.runtime.session import make_session

ort = pytest.importorskip("onnxruntime")


def test_all_forms_of_a_model_give_the_same_outputs(model: ir.Model, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save(model, path)
    results = []
    for source in (path, str(path), to_proto(model).SerializeToString(), model):
        session = make_session(source)
        results.append(session.run(random_feeds(session.inputs, batch=2))[0])
    assert results[0].shape == (2, 6)
    assert all((result == results[0]).all() for result in results)


def test_optimisation_can_be_turned_off(model: ir.Model) -> None:
    feeds = random_feeds(make_session(model).inputs)
    (plain,) = make_session(model, optimise=False).run(feeds)
    np.testing.assert_allclose(plain, make_session(model).run(feeds)[0], rtol=1e-5, atol=1e-6)


def test_warnings_at_load_are_captured_and_not_printed(
    build: Callable[..., ir.Model], capfd: pytest.CaptureFixture[str]
) -> None:
    session = make_session(build(opset=17, dead=True))
    assert any("unused" in text for text in session.warnings)
    assert capfd.readouterr().err == ""


def test_a_clean_model_loads_without_warnings(model: ir.Model) -> None:
    assert make_session(model).warnings == ()


def test_lines_of_others_on_stderr_survive_the_capture(
    model: ir.Model, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ort.InferenceSession

    def noisy(*args: object, **kwargs: object) -> object:
        os.write(2, b"a line of another thread\n")
        return create(*args, **kwargs)

    monkeypatch.setattr(ort, "InferenceSession", noisy)
    assert make_session(model).warnings == ()
    assert capfd.readouterr().err == "a line of another thread\n"


def test_cuda_falls_back_to_the_cpu_and_says_so(
    model: ir.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    session = make_session(model, provider="cuda")
    assert (session.provider, session.asked, session.fell_back) == ("cpu", "cuda", True)
    assert "runs on the CPU" in session.fallback


def test_the_cpu_is_no_fallback_when_asked_for(model: ir.Model) -> None:
    session = make_session(model)
    assert not session.fell_back
    assert session.fallback == ""


def test_a_missing_onnxruntime_names_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"prunec\[cpu\].*prunec\[gpu\]"):
        make_session(b"")


def test_half_an_onnxruntime_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(MissingDependencyError, match="half installed; see `prunec doctor`"):
        make_session(b"")


def test_an_unreadable_model_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("hello")
    with pytest.raises(ModelError, match=r"text\.onnx: onnxruntime cannot load it: ") as caught:
        make_session(path)
    assert "\n" not in str(caught.value)
    assert "ONNXRuntimeError" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.onnx", "."])
def test_a_path_that_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"no such file|is a directory"):
        make_session(tmp_path / name)


def test_a_failing_run_is_a_model_error(model: ir.Model) -> None:
    with pytest.raises(ModelError, match="cannot run the model"):
        make_session(model).run({"image": np.zeros((1, 3, 9, 8), np.float32)})


def test_an_unknown_provider_gets_the_nearest_match(model: ir.Model) -> None:
    with pytest.raises(UsageError, match="did you mean 'cuda'"):
        make_session(model, provider="cudaa")


def test_negative_threads_are_refused(model: ir.Model) -> None:
    with pytest.raises(UsageError, match="--threads"):
        make_session(model, threads=-1)
