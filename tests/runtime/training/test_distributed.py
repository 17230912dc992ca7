"""Two processes on the CPU, started as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from training_nets import arrays, net, save

from prunec.frontends.onnx import load
from prunec.tools.cli import main

# What each process learned and read goes into files of its own.
SCRIPT = """
import os, sys
from pathlib import Path
from prunec.frontends.onnx import save
from prunec.runtime.training import finetune, indexed
from prunec.tools.cli import main

rank, run, read = os.environ["RANK"], finetune.finetune, indexed.ArrayStore.gather

def noted(*given):
    found = run(*given)
    save(found.model, Path(f"{sys.argv[sys.argv.index('-o') + 1]}.rank{rank}"))
    return found

def gathered(store, chosen):
    with open(f"read{rank}.txt", "a") as file:
        print(*chosen, file=file)
    return read(store, chosen)

finetune.finetune, indexed.ArrayStore.gather = noted, gathered
code = main(sys.argv[1 : sys.argv.index("--then")])
sys.argv = [sys.argv[0], *sys.argv[sys.argv.index("--then") + 1 :]]
sys.exit(code or main(sys.argv[1:]))
"""


def words(out: str, batch: int, *more: str) -> list[str]:
    return [
        "finetune", "student.onnx", "--teacher", "dense.onnx", "--data", "d.npz", "--epochs", "2",
        "--optimizer", "sgd", "--validation", "0.1", "--device", "cpu", "--threads", "1",
        "--batch", str(batch), "-o", out, "--no-plot", *more,
    ]  # fmt: skip


def weights(path: Path) -> dict[str, np.ndarray]:
    values = load(path).graph.initializers.items()
    return {name: v.const_value.numpy() for name, v in values if v.const_value is not None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs in two processes: a plain one, then one with frozen norms and --json."""
    made = tmp_path_factory.mktemp("two")
    save(net(4, seed=1), made / "student.onnx")
    save(net(8), made / "dense.onnx")
    arrays(made / "d.npz", 128)
    (made / "script.py").write_text(SCRIPT)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "script.py", *words("two.onnx", 8),
        "--then", *words("frozen.onnx", 8, "--freeze-norms", "--json"),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        command, cwd=made, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    (made / "stdout.txt").write_text(done.stdout)
    (made / "stderr.txt").write_text(done.stderr)
    return made


def test_both_processes_have_the_same_weights_and_statistics(folder: Path) -> None:
    written = weights(folder / "two.onnx")
    for rank in range(2):
        own = weights(folder / f"two.onnx.rank{rank}")
        for name, array in written.items():
            np.testing.assert_array_equal(own[name], array, err_msg=name)
    start = weights(folder / "student.onnx")
    assert all((written[name] != start[name]).any() for name in ("w", "fc", "m", "v"))


def test_only_the_first_process_writes_and_prints(folder: Path) -> None:
    table, _, document = (folder / "stdout.txt").read_text().partition("{")
    assert table.count("held-out loss") == 1
    assert table.count("best") == 1
    assert json.loads("{" + document)["best_epoch"] is not None
    told = (folder / "stderr.txt").read_text()
    assert [told.count(f"epoch {k} ") for k in range(3)] == [2, 2, 2]  # one line a run
    assert "Warning" not in told
    written = {path.name for path in folder.glob("two.*")}
    own = {"two.onnx.rank0", "two.onnx.rank1"}  # the script's
    assert written == {"two.onnx", "two.history.json", *own}


def test_no_sample_is_read_by_both_in_an_epoch(folder: Path) -> None:
    lines = [(folder / f"read{rank}.txt").read_text().splitlines() for rank in range(2)]
    batches = [[set(map(int, line.split())) for line in each] for each in lines]
    full = [[b for b in each if len(b) == 8] for each in batches]  # held-out batches are smaller
    per_epoch = 115 // 2 // 8
    first = len(full[0]) // 2 - 2 * per_epoch  # a few batches are tried before two epochs
    assert 0 < first < per_epoch
    assert len(full[0]) == len(full[1])
    for start in (first, first + per_epoch):
        parts = [set().union(*each[start : start + per_epoch]) for each in full]
        assert not parts[0] & parts[1]
        assert len(parts[0]) == len(parts[1]) == 8 * per_epoch


def test_two_processes_are_one_with_twice_the_batch(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    # With frozen norms no sample of a batch has a say in another's outputs.
    assert main(words("one.onnx", 16, "--freeze-norms", "-q")) == 0
    one, two = weights(folder / "one.onnx"), weights(folder / "frozen.onnx")
    for name in one:
        np.testing.assert_allclose(two[name], one[name], atol=1e-5, err_msg=name)
