from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from prunec.compiler.errors import ModelError, UsageError
from prunec.frontends.onnx import save
from prunec.runtime.bench import bench, ratio_interval, size_on_disk

ort = pytest.importorskip("onnxruntime")


@pytest.fixture
def paths(model: ir.Model, tmp_path: Path) -> list[Path]:
    found = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for path in found:
        save(model, path)
    return found


def test_every_model_gets_as_many_samples_and_a_ratio_to_the_first(paths: list[Path]) -> None:
    result = bench(paths, rounds=6, seconds=10, batch=3)
    assert result.rounds == 6
    assert [len(timing.samples_s) for timing in result.models] == [6, 6]
    assert [ratio.path for ratio in result.ratios] == [str(paths[1])]
    ratio = result.ratios[0]
    assert ratio.low <= ratio.ratio <= ratio.high
    first, second = result.models
    assert ratio.ratio == first.median_s / second.median_s
    assert first.shapes == {"image": (3, 3, 8, 8)}
    assert first.bytes == paths[0].stat().st_size


def test_memory_is_what_one_run_allocates(paths: list[Path]) -> None:
    (small,) = bench(paths[:1], rounds=1, memory=True).models
    (large,) = bench(paths[:1], rounds=1, memory=True, batch=8).models
    assert small.allocated
    assert large.allocated == pytest.approx(8 * small.allocated, rel=0.5)
    assert bench(paths[:1], rounds=1).models[0].allocated is None


def test_time_ends_the_rounds_but_not_before_five(paths: list[Path]) -> None:
    assert bench(paths[:1], rounds=1000, seconds=1e-9).rounds == 5


def test_results_become_json(paths: list[Path]) -> None:
    shown = json.loads(json.dumps(bench(paths, rounds=2).to_dict()))
    assert shown["provider"] == "cpu"
    assert shown["models"][0]["shapes"] == {"image": [1, 3, 8, 8]}


def test_shapes_override_the_batch(paths: list[Path]) -> None:
    result = bench(paths[:1], rounds=1, shapes={"image": (2, 3, 8, 8)})
    assert result.models[0].shapes == {"image": (2, 3, 8, 8)}


def test_a_fallback_is_reported(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    result = bench(paths[:1], rounds=1, provider="cuda")
    assert result.provider == "cpu"
    assert "runs on the CPU" in result.fallback


def test_cuda_runs_with_inputs_on_the_device(paths: list[Path]) -> None:
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("onnxruntime has no CUDA provider here")
    result = bench(paths, rounds=2, provider="cuda")
    assert (result.provider, result.fallback) == ("cuda", "")


def test_the_size_counts_external_data(model: ir.Model, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save(model, path, external=True)
    files = list(tmp_path.iterdir())
    assert len(files) == 2
    assert size_on_disk(path) == sum(file.stat().st_size for file in files)


def test_the_interval_holds_the_ratio_and_narrows_with_samples() -> None:
    rng = np.random.default_rng(0)

    def interval(rounds: int) -> tuple[float, float, float]:
        drift = rng.uniform(1, 2, rounds)
        noise = rng.normal(1, 0.05, (2, rounds))
        return ratio_interval(2 * drift * noise[0], drift * noise[1])

    few, many = interval(10), interval(1000)
    assert all(low <= 2 <= high for _, low, high in (few, many))
    assert many[2] - many[1] < few[2] - few[1]


def test_the_interval_is_the_same_for_the_same_seed() -> None:
    a, b = np.random.default_rng(0).uniform(1, 2, (2, 20))
    assert ratio_interval(a, b, seed=1) == ratio_interval(a, b, seed=1)


def test_no_model_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one model"):
        bench([])


@pytest.mark.parametrize("options", [{"rounds": 0}, {"batch": 0}, {"seconds": 0.0}])
def test_empty_measurements_are_refused(paths: list[Path], options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        bench(paths, **options)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx: no such file"):
        bench([tmp_path / "gone.onnx"])
