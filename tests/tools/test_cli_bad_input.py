"""Bad input from the command line: one line, the right exit code, nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tiny import files, model_of, prunec, save, two_convs, unknown_domain, without_channels

Capture = pytest.CaptureFixture[str]
BUDGET = ("--budget", "flops=0.5")


@pytest.fixture(autouse=True)
def nothing_changes(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test prepares in `tmp_path` is still there after the run, and nothing else."""
    yield
    kept = getattr(request.node, "kept", None)
    if kept is not None:
        assert files(tmp_path) == kept


@pytest.fixture
def refuse(tmp_path: Path, capsys: Capture, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Run a command line that must fail; returns its one line."""

    def run(code: int, *words: object) -> str:
        request.node.kept = files(tmp_path)
        done = prunec(capsys, *words)
        line = done.complaint()
        assert done.code == code, line
        return line

    return run


def external(model: onnx.ModelProto, location: str) -> onnx.ModelProto:
    """The model with its first weight said to lie in another file."""
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return model


def with_weight(name: str, change: Callable[[np.ndarray], np.ndarray]) -> onnx.ModelProto:
    model = two_convs()
    for tensor in model.graph.initializer:
        if tensor.name == name:
            array = change(numpy_helper.to_array(tensor).copy())
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    return model


def set_nan(array: np.ndarray) -> np.ndarray:
    array.flat[0] = np.nan
    return array


def cyclic() -> onnx.ModelProto:
    add = helper.make_node
    return model_of([add("Add", ["x", "b"], ["a"]), add("Add", ["a", "a"], ["b"]),
                     add("Relu", ["b"], ["y"])], {})  # fmt: skip


def failing_checker() -> onnx.ModelProto:
    return model_of([helper.make_node("Conv", ["x"], ["y"])], {})


def test_missing_file(refuse: Callable[..., str], tmp_path: Path) -> None:
    assert "no such file" in refuse(1, tmp_path / "none.onnx", *BUDGET)


def test_directory(refuse: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "d.onnx").mkdir()
    assert "director" in refuse(1, tmp_path / "d.onnx", *BUDGET)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "empty"),
        (b"this is not a model\n", "text file"),
        (two_convs().SerializeToString()[:-200], ""),
        (two_convs().SerializeToString()[:700], ""),
        (bytes(range(256)) * 8, "not an ONNX model"),
    ],
    ids=["empty", "text", "truncated", "truncated-early", "garbage"],
)
def test_files_that_are_no_models(
    refuse: Callable[..., str], tmp_path: Path, content: bytes, part: str
) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    line = refuse(1, path, *BUDGET)
    assert part in line
    assert "bad.onnx" in line


@pytest.mark.parametrize(
    ("model", "part"),
    [
        (external(two_convs(), "weights.bin"), "weights.bin"),
        (external(two_convs(), "../outside.bin"), "outside.bin"),
        (external(two_convs(), "/etc/passwd"), "/etc/passwd"),
        (cyclic(), ""),
        (failing_checker(), ""),
    ],
    ids=["missing-data", "escaping-data", "absolute-data", "cyclic", "checker"],
)
def test_models_that_cannot_be_used(
    refuse: Callable[..., str], tmp_path: Path, model: onnx.ModelProto, part: str
) -> None:
    line = refuse(1, save(model, tmp_path / "bad.onnx"), *BUDGET)
    assert part in line
    assert "bad.onnx" in line


def test_nan_weights(refuse: Callable[..., str], tmp_path: Path) -> None:
    path = save(with_weight("w1", set_nan), tmp_path / "bad.onnx")
    line = refuse(1, path, *BUDGET)
    assert "w1" in line
    assert "NaN" in line


def test_zero_size_tensors(refuse: Callable[..., str], tmp_path: Path) -> None:
    model = with_weight("w1", lambda a: a[:, :0])
    line = refuse(4, save(model, tmp_path / "bad.onnx"), *BUDGET)
    assert "not the pruned, the dense model" in line


def test_no_prunable_channel(refuse: Callable[..., str], tmp_path: Path) -> None:
    path = save(without_channels(), tmp_path / "relu.onnx")
    refuse(3, path, "--budget", "bytes=1MB")


def test_unknown_domain_freezes_what_it_touches(refuse: Callable[..., str], tmp_path: Path) -> None:
    path = save(unknown_domain(), tmp_path / "odd.onnx")
    assert "w1:0" not in refuse(2, path, *BUDGET, "--only", "w1:0").replace("'w1:0'", "")
    assert "smallest reachable" in refuse(3, path, "--budget", "flops=0.01")


def test_infeasible_budget_says_what_is_reachable(
    refuse: Callable[..., str], tmp_path: Path
) -> None:
    path = save(two_convs(), tmp_path / "net.onnx")
    line = refuse(3, path, "--budget", "flops=0.001")
    assert "smallest reachable value" in line
    assert "held there by" in line


def test_unproven_gap(refuse: Callable[..., str], tmp_path: Path) -> None:
    path = save(two_convs(), tmp_path / "net.onnx")
    assert "--max-gap" in refuse(3, path, *BUDGET, "--solver", "greedy", "--max-gap", "0.01")


def test_unwritable_outputs(refuse: Callable[..., str], tmp_path: Path) -> None:
    path = save(two_convs(), tmp_path / "net.onnx")
    assert "does not exist" in refuse(1, path, *BUDGET, "-o", tmp_path / "no" / "a.onnx")
    assert "is a directory" in refuse(1, path, *BUDGET, "-o", tmp_path)
    assert "overwrite the input" in refuse(1, path, *BUDGET, "-o", path)
    same = tmp_path / "both"
    assert "another output" in refuse(1, path, *BUDGET, "-o", same, "--plan-out", same)


def test_outputs_never_replace_what_is_no_file(refuse: Callable[..., str], tmp_path: Path) -> None:
    path = save(two_convs(), tmp_path / "net.onnx")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "not a regular file" in refuse(1, path, *BUDGET, "-o", pipe)
    assert "not a regular file" in refuse(1, path, *BUDGET, "--plan-out", pipe)
    assert pipe.is_fifo()


def test_a_target_of_a_fifo_is_refused_by_the_writer_too(tmp_path: Path) -> None:
    from prunec.compiler.errors import OutputError
    from prunec.runtime.stage import staged

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="not a regular file"), staged([pipe]):
        raise AssertionError("must not get here")
    assert pipe.is_fifo()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(refuse: Callable[..., str], tmp_path: Path) -> None:
    path = save(two_convs(), tmp_path / "net.onnx")
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert "not writable" in refuse(1, path, *BUDGET, "-o", folder / "a.onnx")


def fails_with(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("where", ["os.fsync", "pathlib.Path.write_text", "pathlib.Path.replace"])
def test_full_disk(
    refuse: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = save(two_convs(), tmp_path / "net.onnx")
    monkeypatch.setattr(where, fails_with(errno.ENOSPC))
    line = refuse(1, path, *BUDGET)
    assert "No space left" in line
    assert "/.prunec" not in line  # the name that the user gave, not a temporary one


def test_a_failed_oracle_leaves_nothing(
    refuse: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(two_convs(), tmp_path / "net.onnx")
    monkeypatch.setattr("prunec.runtime.verify.difference", lambda *_, **__: 1.0)
    assert "verification failed" in refuse(4, path, *BUDGET)


def test_out_of_memory(
    refuse: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    path = save(two_convs(), tmp_path / "net.onnx")
    monkeypatch.setattr("prunec.runtime.compile.apply_plan", fail)
    assert "out of memory" in refuse(1, path, *BUDGET)


def test_our_own_faults_are_one_line_and_with_v_a_traceback(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("surprise")

    path = save(two_convs(), tmp_path / "net.onnx")
    monkeypatch.setattr("prunec.runtime.compile.apply_plan", fail)
    done = prunec(capsys, path, *BUDGET)
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "internal error: KeyError: 'surprise'; please report" in done.err
    assert "Traceback" in prunec(capsys, path, *BUDGET, "-v").err
    assert set(files(tmp_path)) == {"net.onnx"}


# Plans


@pytest.fixture
def planned(tmp_path: Path, capsys: Capture) -> tuple[Path, Path]:
    path = save(two_convs(), tmp_path / "net.onnx")
    assert prunec(capsys, "plan", path, "--budget", "flops=0.5").code == 0
    return path, tmp_path / "net.plan.json"


def test_plan_for_another_model(
    refuse: Callable[..., str], planned: tuple[Path, Path], tmp_path: Path
) -> None:
    other = save(two_convs(channels=24), tmp_path / "other.onnx")
    assert "another model" in refuse(1, "apply", other, planned[1])


def change(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    *parents, last = path.split("/")

    def edit(body: dict[str, Any]) -> None:
        for key in parents:
            body = body[key]
        body[last] = value

    return edit


def drop(path: str) -> Callable[[dict[str, Any]], None]:
    *parents, last = path.split("/")

    def edit(body: dict[str, Any]) -> None:
        for key in parents:
            body = body[key]
        del body[last]

    return edit


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (change("schema", 99), "$.schema"),
        (change("schema", "1"), "$.schema"),
        (change("graph_sha256", 3), "$.graph_sha256"),
        (change("graph_sha256", "0" * 64), "$.graph_sha256"),
        (drop("costs"), "$.costs"),
        (change("extra", 1), "$.extra"),
        (change("objective", "high"), "$.objective"),
        (change("bound", "high"), "$.bound"),
        (change("gap", []), "$.gap"),
        (change("components", []), "$.components"),
        (change("components/solver", 3), "$.components['solver']"),
        (change("options", 3), "$.options"),
        (change("versions/prunec", 3), "$.versions['prunec']"),
        (change("hyperedges/w1:0", 3), "$.hyperedges['w1:0'].size"),
        (change("hyperedges/w1:0/size", -1), "$.hyperedges['w1:0'].size"),
        (change("hyperedges/w1:0/size", 17), "$.hyperedges['w1:0']"),
        (change("hyperedges/w1:0/count", 1), "$.hyperedges['w1:0'].count"),
        (change("hyperedges/w1:0/kept", ""), "$.hyperedges['w1:0'].count"),
        (change("hyperedges/w1:0/kept", "0-99"), "$.hyperedges['w1:0'].kept"),
        (change("hyperedges/w1:0/kept", "3,2"), "$.hyperedges['w1:0'].kept"),
        (change("hyperedges/w1:0/kept", "a-b"), "$.hyperedges['w1:0'].kept"),
        (change("hyperedges/w1:0/kept", 3), "$.hyperedges['w1:0'].kept"),
        (drop("hyperedges/w1:0"), "$.hyperedges['w1:0']"),
        (drop("hyperedges/w1:0/count"), "$.hyperedges['w1:0'].count"),
        (change("weights/w1", 3), "$.weights['w1']"),
        (change("weights/w1", {"x": "0"}), "$.weights['w1']['x']"),
        (change("weights/w1", {"0": "0"}), "$.weights['w1']"),
        (change("weights/w1", {"0": "2,1"}), "$.weights['w1']['0']"),
        (change("weights/nobody", {"0": "0"}), "$.weights['nobody']"),
        (change("costs/flops", 3), "$.costs['flops'].dense"),
        (change("costs/flops/pruned", 3), "$.costs['flops']"),
        (change("costs/flops/pruned", -3), "$.costs['flops'].pruned"),
        (change("costs/wishes", {"dense": 1, "pruned": 1}), "$.costs['wishes']"),
        (drop("costs/flops"), "$.costs['flops']"),
        (change("budget/flops", "all"), "$.budget['flops']"),
        (change("budget/flops", 3), "$.budget['flops']"),
        (change("budget/wishes", 3), "$.budget['wishes']"),
    ],
)
def test_plans_edited_by_hand(
    refuse: Callable[..., str],
    planned: tuple[Path, Path],
    edit: Callable[[dict[str, Any]], None],
    where: str,
) -> None:
    model, plan = planned
    body = json.loads(plan.read_text())
    edit(body)
    plan.write_text(json.dumps(body))
    line = refuse(1, "apply", model, plan)
    assert where in line
    assert "net.plan.json" in line


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00\xff", "{'a': 1}", '"plan"'])
def test_files_that_are_no_plans(
    refuse: Callable[..., str], planned: tuple[Path, Path], text: str
) -> None:
    model, plan = planned
    plan.write_bytes(text.encode("latin-1"))
    assert "net.plan.json" in refuse(1, "apply", model, plan)
    plan.unlink()
    assert "No such file" in refuse(1, "apply", model, plan)


# Interruption

STOPPING = """
import os, signal
import numpy as np

def feeds():
    os.kill(os.getpid(), signal.SIGNAL)
    for _ in range(100):
        yield {"x": np.zeros((1, 3, 6, 6), np.float32)}
"""


@pytest.mark.parametrize("score", ["activation", "magnitude"])
@pytest.mark.parametrize(
    ("name", "said", "code"), [("SIGINT", "interrupted", 130), ("SIGTERM", "terminated", 143)]
)
def test_signals_leave_the_folder_as_it_was(
    tmp_path: Path, score: str, name: str, said: str, code: int
) -> None:
    """While calibrating (nothing is staged yet) and while measuring accuracy (everything is)."""
    save(two_convs(), tmp_path / "net.onnx")
    (tmp_path / "net.pruned.onnx").write_text("old")
    (tmp_path / "feeding.py").write_text(STOPPING.replace("SIGNAL", name))
    before = files(tmp_path)
    done = subprocess.run(
        [sys.executable, "-B", "-m", "prunec", "net.onnx", *BUDGET, "--score", score,
         "--data", "feeding.py:feeds"],
        check=False, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == f"prunec: {said}; nothing was written\n"
    assert done.stdout == ""
    assert done.returncode == code
    assert files(tmp_path) == before


def test_interruption_after_writing_says_so(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(two_convs(), tmp_path / "net.onnx")
    monkeypatch.setattr("prunec.tools.main_job.report_blocks", lambda *_: interrupt())
    done = prunec(capsys, path, *BUDGET)
    assert done.code == 130
    assert "net.pruned.onnx" in done.err


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)
