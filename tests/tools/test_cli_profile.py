"""``prunec profile`` and latency budgets on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from timed import profile_file
from tiny import prunec

from prunec.passes.options import Options
from prunec.runtime.latency.attach import LATENCY_MODELS, positive_levels
from prunec.runtime.latency.profile import read_profile
from prunec.runtime.subject import open_model
from prunec.tools import options
from prunec.tools.demo import DIGITS

QUICK = ("--models", 4, "--rounds", 1, "--passes", 1)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    subject = open_model(DIGITS)
    path = tmp_path_factory.mktemp("profile") / "p.json"
    return profile_file(path, subject, positive_levels(subject, Options()))


def test_a_profile_is_measured_and_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    first = prunec(capsys, "profile", DIGITS, *QUICK, "-o", out)
    assert first.code == 0
    assert "4 slim models measured" in first.out
    assert "mean" in first.out
    (setup,) = read_profile(out)
    assert (setup.provider, setup.threads, setup.precision) == ("cpu", 1, "float32")
    before = out.read_bytes()
    again = prunec(capsys, "profile", DIGITS, *QUICK, "-o", out, "--json")
    assert json.loads(again.out)["measured_models"] == 0
    assert out.read_bytes() == before


def test_the_profile_lies_beside_the_model_by_default(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = tmp_path / "net.onnx"
    model.write_bytes(Path(DIGITS).read_bytes())
    assert prunec(capsys, "profile", model, *QUICK).code == 0
    assert (tmp_path / "net.profile.json").is_file()


def test_predictions_are_held_against_random_slim_models(
    capsys: pytest.CaptureFixture[str], written: Path
) -> None:
    ran = prunec(capsys, "profile", DIGITS, "--profile", written, "--validate", 3, "--json")
    found = json.loads(ran.out)["validation"]
    assert ran.code == 0
    assert len(found["measured"]) == len(found["predicted"]) == 3
    # The profile's times are made up, so the error only says that both were compared.
    assert found["worst"] >= found["quality"]["mpe"] > 0


def test_factors_of_hyperedges_are_written_for_edge_multipliers(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path
) -> None:
    out, factors = tmp_path / "p.json", tmp_path / "factors.json"
    out.write_bytes(written.read_bytes())
    ran = prunec(
        capsys, "profile", DIGITS, *QUICK, "-o", out, "--multipliers-out", factors, "--json"
    )
    assert ran.code == 0
    assert json.loads(factors.read_text()) == json.loads(ran.out)["multipliers"]
    ran = prunec(
        capsys, "plan", DIGITS, "--budget", "flops=0.6", "--edge-multipliers", factors,
        "-o", tmp_path / "plan.json",
    )  # fmt: skip
    assert ran.code == 0
    ran = prunec(
        capsys, "plan", DIGITS, "--budget", "latency=0.8", "--latency-model", "half-edge",
        "--profile", out, "-o", tmp_path / "plan.json",
    )  # fmt: skip
    assert ran.code == 0


def test_another_profile_can_be_merged(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path
) -> None:
    out = tmp_path / "p.json"
    ran = prunec(capsys, "profile", DIGITS, *QUICK, "-o", out, "--merge", written, "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["measured_models"] == 0
    assert read_profile(out) == read_profile(written)


def test_a_latency_budget_is_shown_as_time(
    capsys: pytest.CaptureFixture[str], written: Path, tmp_path: Path
) -> None:
    ran = prunec(
        capsys, "plan", DIGITS, "--budget", "latency=0.6", "--profile", written, "--device", "cpu",
        "-o", tmp_path / "plan.json",
    )  # fmt: skip
    assert ran.code == 0
    (line,) = [x for x in ran.out.splitlines() if x.startswith("latency")]
    assert " us" in line
    assert f"predicted  latency (lut) on {next(iter(read_profile(written))).device}, cpu" in ran.out
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["costs"]["latency"]["pruned"] <= plan["budget"]["latency"]


def test_a_provider_that_is_not_there_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is usable here")
    out = tmp_path / "p.json"
    ran = prunec(capsys, "profile", DIGITS, *QUICK, "-o", out, "--device", "cuda", "--json")
    assert ran.code == 0
    assert "'cuda' is not usable here" in ran.err
    assert [setup.provider for setup in read_profile(out)] == ["cpu"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--budget", "latency=8"), "a time needs a unit"),
        (("--budget", "latency=8MB"), "unknown unit 'mb'"),
        (("--budget", "latency=0"), "must be greater than 0"),
        (("--budget", "latency=0.6", "--threads", "7"), "was not measured with cpu, 7 threads"),
        (("--budget", "latency=1us"), "budget latency <= 0.001ms"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    capsys: pytest.CaptureFixture[str],
    written: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    complaint: str,
) -> None:
    ran = prunec(capsys, "plan", DIGITS, *words, "--profile", written, "-o", tmp_path / "plan.json")
    assert complaint in ran.complaint()


def test_the_options_name_every_model_of_latency() -> None:
    assert options.LATENCY_MODELS == LATENCY_MODELS


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("--validate", "3", "--latency-model", "half-edge"),
            "needs a model of cells: lut, m5, m6",
        ),
        (("--decouple",), "leave --decouple out"),
        (("--profile", "none.json"), "none.json: No such file"),
        (("--merge", DIGITS), "not a latency profile (a binary file)"),
        (("--models", "1"), "must be at least 2"),
    ],
)
def test_a_profile_that_cannot_be_made_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    model = tmp_path / "net.onnx"
    model.write_bytes(Path(DIGITS).read_bytes())
    assert complaint in prunec(capsys, "profile", model, *words).complaint()
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
