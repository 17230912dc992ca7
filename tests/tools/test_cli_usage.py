"""Usage errors, help, completion and the configuration file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import files, prunec, save, two_convs

from prunec.passes.criteria import CRITERIA
from prunec.passes.recovery import RECOVERIES
from prunec.passes.solvers import SOLVERS
from prunec.tools.cli import COMMANDS
from prunec.tools.options import COMPONENTS, MAIN

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(two_convs(), tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((), "give a model"),
        (("MODEL",), "--budget is required"),
        (("MODEL", "--bugdet", "flops=0.5"), "did you mean '--budget'"),
        (("MODEL", "--budget", "flops=0.5", "--algn=4"), "did you mean '--align'"),
        (("inspekt", "MODEL"), "did you mean 'inspect'"),
        (("inspect", "--jsn"), "did you mean '--json'"),
        (("inspect",), "MODEL"),
        (("MODEL", "MODEL", "--budget", "flops=0.5"), "unexpected argument"),
        (("MODEL", "--budget", "flops=0.5", "-x"), "unexpected option '-x'"),
        (("MODEL", "--budget"), "--budget"),
        (("MODEL", "--budget", "flips=0.5"), "did you mean 'flops'"),
        (("MODEL", "--budget", "flops"), "needs a value"),
        (("MODEL", "--budget", "flops=many"), "not a number"),
        (("MODEL", "--budget", "flops=0"), "greater than 0"),
        (("MODEL", "--budget", "flops=-0.5"), "flops=-0.5"),
        (("MODEL", "--budget", "flops=1.5"), "a ratio is at most 1"),
        (("MODEL", "--budget", "flops=0.5,flops=0.6"), "contradictory"),
        (("MODEL", "--budget", "flops=0.5", "--budget", "macs=0.6"), "contradictory"),
        (("MODEL", "--budget", "flops=0.5", "--score", "magnitud"), "did you mean 'magnitude'"),
        (("MODEL", "--budget", "flops=0.5", "--score", "magnitude{q=1}"), "no option 'q'"),
        (("MODEL", "--budget", "flops=0.5", "--solver", "mipl"), "did you mean 'milp'"),
        (("MODEL", "--budget", "flops=0.5", "--solver", "milp{gap=x}"), "float"),
        (("MODEL", "--budget", "flops=0.5", "--align", "0"), "at least 1"),
        (("MODEL", "--budget", "flops=0.5", "--align", "two"), "whole number"),
        (("MODEL", "--budget", "flops=0.5", "--min-keep", "-1"), "at least 0"),
        (("MODEL", "--budget", "flops=0.5", "--keep", "("), "not a regular expression"),
        (("MODEL", "--budget", "flops=0.5", "--keep", "nothing"), "matches no hyperedge"),
        (("MODEL", "--budget", "flops=0.5", "--max-gap", "2"), "between 0 and 1"),
        (("MODEL", "--budget", "flops=0.5", "--shape", "x"), "NAME:1,3,224,224"),
        (("MODEL", "--budget", "flops=0.5", "--shape", "z:1,3,6,6"), "no input named 'z'"),
        (("MODEL", "--budget", "flops=0.5", "--provider", "gpu"), "--provider"),
        (("MODEL", "--budget", "flops=0.5", "--threads", "-1"), "--threads"),
        (("MODEL", "--budget", "flops=0.5", "--mean", "0.5"), "need --data"),
        (("MODEL", "--budget", "flops=0.5", "--mean", "grey"), "numbers such as"),
        (("MODEL", "--budget", "flops=0.5", "--score", "activation"), "--data"),
        (("MODEL", "--budget", "flops=0.5", "--config", "none.toml"), "none.toml"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(
    model: Path, capsys: Capture, words: tuple[str, ...], part: str
) -> None:
    done = prunec(capsys, *(str(model) if word == "MODEL" else word for word in words))
    assert part in done.complaint()
    assert done.code == 2
    assert set(files(model.parent)) == {"net.onnx"}


def test_a_model_named_like_a_command_is_reached_by_its_path(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(two_convs(), tmp_path / "inspect")
    monkeypatch.chdir(tmp_path)
    assert prunec(capsys, "./inspect", "--budget", "flops=0.6").code == 0
    assert set(files(tmp_path)) == {"inspect", "inspect.pruned.onnx", "inspect.plan.json"}


def test_flags_may_stand_before_the_command(model: Path, capsys: Capture) -> None:
    assert json.loads(prunec(capsys, "--json", "inspect", model).out)["model"] == str(model)


def test_component_names_are_those_of_the_tables(capsys: Capture) -> None:
    assert COMPONENTS["criteria"] == tuple(CRITERIA)
    assert COMPONENTS["solvers"] == tuple(SOLVERS)
    assert COMPONENTS["recoveries"] == tuple(RECOVERIES)
    shown = prunec(capsys, "--help-components").out
    for name in (*CRITERIA, *SOLVERS):
        assert f"  {name}" in shown


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str, capsys: Capture) -> None:
    done = prunec(capsys, *command.split(), "--help")
    assert done.code == 0
    assert "usage: prunec" in done.out
    if not command:
        assert "one multiply-accumulate = 1" in " ".join(done.out.split()).replace("- ", "-")
        for number in ("0", "1", "2", "3", "4", "5", "130"):
            assert f"\n  {number}  " in done.out
        for name in COMMANDS:
            assert f"\n  {name}  " in done.out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from prunec.tools.cli import main; main(['--help']);"
        "heavy = {'numpy', 'onnx', 'onnx_ir', 'pulp', 'networkx', 'rich', 'shtab', 'json'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_scripts(shell: str, capsys: Capture, tmp_path: Path) -> None:
    done = prunec(capsys, "--print-completion", shell)
    assert done.code == 0
    for word in ("--budget", "--help-components", *COMMANDS):
        assert word in done.out
    if shutil.which(shell):
        script = tmp_path / "completion"
        script.write_text(done.out)
        subprocess.run([shell, "-n", script], check=True)


def test_bash_completes_commands_options_and_files(capsys: Capture, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    (tmp_path / "c").write_text(prunec(capsys, "--print-completion", "bash").out)
    save(two_convs(), tmp_path / "net.onnx")

    def complete(*words: str) -> list[str]:
        quoted = " ".join(f"'{word}'" for word in words)
        script = (
            f"shopt -s progcomp; source ./c; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1};"
            "_shtab_prunec; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(
            [bash, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert "inspect" in complete("prunec", "ins")
    assert "net.onnx" in complete("prunec", "ne")
    assert "--budget" in complete("prunec", "--bud")
    assert "--graphml" in complete("prunec", "inspect", "--gra")


def test_version(capsys: Capture) -> None:
    import prunec as package

    assert prunec(capsys, "--version").out == f"prunec {package.__version__}\n"


def test_python_m_prunec_works(model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prunec", "inspect", str(model), "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["channels"] == 32


def test_a_closed_pipe_is_no_traceback(model: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "prunec", "inspect", str(model)],
        check=False,
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert done.stderr == b""


# The configuration file


def test_every_option_has_a_key(model: Path, capsys: Capture) -> None:
    config = model.parent / "prunec.toml"
    config.write_text(
        """
        budget = { flops = 0.6, params = "0.9" }
        output = "small.onnx"
        plan-out = "small.json"
        score = "magnitude{p=1}"
        solver = "greedy{bound=false}"
        align = 2
        min_keep = 4
        keep = ["w1"]
        only = ["w1", "w2"]
        max_gap = "100%"
        shape = { x = [1, 3, 6, 6] }
        strict = false
        verify = false
        bench = false
        threads = 1
        provider = "cpu"
        quiet = true
        json = false
        verbose = 0
        samples = 4
        data = "data.npy"
        """
    )
    np.save(model.parent / "data.npy", np.zeros((4, 3, 6, 6), np.float32))
    done = prunec(capsys, model, "--config", config)
    # Told to prove nothing, greedy has no gap of 100 % either.
    assert done.code == 3, done.err
    config.write_text(config.read_text().replace('max_gap = "100%"', ""))
    done = prunec(capsys, model, "--config", config)
    assert (done.code, done.out, done.err) == (0, "", "")
    plan = json.loads((model.parent / "small.json").read_text())
    assert set(plan["budget"]) == {"flops", "params"}
    assert plan["components"]["criterion"] == "magnitude{p=1}"
    assert plan["components"]["solver"] == "greedy{bound=false}"
    assert plan["options"]["align"] == 2
    assert plan["options"]["min_keep"] == 4
    assert plan["hyperedges"]["w1:0"]["count"] == 16
    assert (model.parent / "small.onnx").exists()


def test_no_option_is_missing_from_the_file_or_the_command_line() -> None:
    keys = [option.key for group in MAIN.values() for option in group]
    assert len(keys) == len(set(keys))


def test_the_command_line_beats_the_file(model: Path, capsys: Capture) -> None:
    config = model.parent / "prunec.toml"
    config.write_text('budget = "flops=0.9"\nverify = false\njson = true\nalign = 8\n')
    words = (model, "--config", config, "--budget", "flops=0.5", "--verify", "--align", 1)
    body = json.loads(prunec(capsys, *words).out)
    assert body["costs"]["flops"]["ratio"] <= 0.5
    assert body["verification"]["passed"]


def test_overrides_per_hyperedge(model: Path, capsys: Capture) -> None:
    config = model.parent / "prunec.toml"
    config.write_text(
        "[hyperedges.'w1']\nkeep = true\n[hyperedges.\"^w2\"]\nalign = 3\nmin-keep = 4\n"
    )
    plan = model.parent / "p.json"
    words = ("plan", model, "--budget", "flops=0.6", "--config", config, "-o", plan)
    assert prunec(capsys, *words, "--solver", "greedy").code == 0
    edges = json.loads(plan.read_text())["hyperedges"]
    assert edges["w1:0"]["count"] == 16
    assert edges["w2:0"]["count"] in (6, 9, 12, 15)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("bugdet = 'flops=0.5'", "did you mean 'budget'"),
        ("align = 'two'", "whole number"),
        ("align = 0", "at least 1"),
        ("align = true", "text or a number"),
        ("bench = 1", "true or false"),
        ("provider = 'gpu'", "unknown value 'gpu'"),
        ("verbose = 'much'", "whole number"),
        ("align = ", "is not TOML"),
        ("[hyperedges.'w1']\nalgn = 2", "did you mean 'align'"),
        ("[hyperedges.'w1']\nalign = 0", "at least 1"),
        ("[hyperedges.'w1']\nkeep = 1", "true or false"),
        ("hyperedges = 3", "tables"),
        ("[hyperedges]\nw1 = 3", "must be a table"),
    ],
)
def test_faults_of_the_file(model: Path, capsys: Capture, text: str, part: str) -> None:
    config = model.parent / "prunec.toml"
    config.write_text(text + "\n")
    done = prunec(capsys, model, "--budget", "flops=0.5", "--config", config)
    assert part in done.complaint()
    assert "prunec.toml" in done.err
    assert done.code == 2
