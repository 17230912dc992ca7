from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

import prunec
from prunec.compiler.errors import MissingDependencyError, PrunecError, UsageError
from prunec.passes.criteria.magnitude import Magnitude
from prunec.passes.pipeline import decide, limits_of
from prunec.passes.solvers.milp import Milp
from prunec.runtime.compile import Settings
from prunec.runtime.data import DataSpec
from prunec.runtime.subject import open_model
from prunec.runtime.sweep import workers as module
from prunec.runtime.sweep.work import Numbers, bare, decide_point
from prunec.runtime.sweep.workers import Workers
from prunec.tools.demo import DIGITS, IMAGES

BUDGET = "flops=0.6|0.4|0.0001"
OPTIONS = prunec.Options(solver=Milp(), align=8)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    pytest.importorskip("onnxruntime")
    return swept(tmp_path_factory.mktemp("alone"), Workers())


def swept(folder: Path, workers: Workers) -> dict[str, bytes]:
    """Everything that a sweep with proofs and accuracy writes."""
    settings = Settings(data=DataSpec(str(IMAGES), limit=64))
    how = prunec.SweepSettings(folder, workers, prove=True)
    prunec.sweep(DIGITS, BUDGET, OPTIONS, settings, how)
    return files(folder)


@pytest.mark.parametrize(
    "workers", [Workers(jobs=2), Workers(2, "threading"), Workers(1, "loky")], ids=repr
)
def test_workers_change_nothing(tmp_path: Path, workers: Workers, alone: dict[str, bytes]) -> None:
    pytest.importorskip("joblib")
    assert len(alone) == 3 + 2 + 1 + 1  # records, plans, the dense accuracy, the result
    assert swept(tmp_path, workers) == alone


# Closing a cluster leaves sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_dask_cluster_of_two_workers_changes_nothing(
    tmp_path: Path, alone: dict[str, bytes]
) -> None:
    pytest.importorskip("joblib")
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        workers = Workers(backend="dask", address=cluster.scheduler_address)
        assert swept(tmp_path, workers) == alone
        with distributed.Client(cluster) as client:
            assert len(client.scheduler_info()["workers"]) == 2


def test_threads_take_turns_with_a_solver_that_runs_once_per_process() -> None:
    pytest.importorskip("joblib")
    pytest.importorskip("highspy")
    options = prunec.Options(solver=Milp(relaxation=False, gap=0.01), align=8)
    budget = "flops=0.7|0.6|0.5|0.4"
    plans = [
        [p.plan.to_json() for p in prunec.sweep(DIGITS, budget, options, None, how).points]
        for how in (None, prunec.SweepSettings(workers=Workers(4, "threading")))
    ]
    assert plans[0] == plans[1]


def test_what_travels_is_small_and_enough() -> None:
    subject = open_model(DIGITS)
    scores = Magnitude()(subject.model, subject.graph, None)
    numbers = Numbers(bare(subject.graph), scores, OPTIONS)
    data = pickle.dumps(numbers)
    assert len(data) < 0.1 * DIGITS.stat().st_size
    limits = limits_of(subject.graph, "flops=0.5")
    choice = decide_point(pickle.loads(data), limits)
    alone = decide(subject.graph, scores, limits, OPTIONS)
    assert (choice.mask == alone.mask).all()
    assert (choice.objective, choice.bound) == (alone.objective, alone.bound)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"backend": "spark"}, "one of loky, threading, dask, ray"),
        ({"backend": "dask"}, "needs --address"),
        ({"address": "tcp://x:1"}, "for --backend dask or ray"),
        ({"jobs": -1}, "at least 0"),
    ],
)
def test_faults(fields: dict[str, object], part: str) -> None:
    with pytest.raises(UsageError, match=part):
        Workers(**fields)


@pytest.mark.parametrize(
    ("missing", "fields", "part"),
    [
        ("joblib", {"jobs": 2}, r"prunec\[sweep\]"),
        ("distributed", {"backend": "dask", "address": "tcp://127.0.0.1:1"}, r"prunec\[dask\]"),
        ("ray", {"backend": "ray"}, "pip install ray"),
    ],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, missing: str, fields: dict[str, object], part: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingDependencyError, match=part):
        list(Workers(**fields).run(max, 1, [(2,)]))


def test_a_back_end_that_gives_all_at_once_gets_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joblib = pytest.importorskip("joblib")
    backend = joblib.parallel.ThreadingBackend
    monkeypatch.setattr(backend, "supports_return_generator", False)
    tasks = [(n,) for n in range(5)]
    assert list(Workers(2, "threading").run(max, 2, tasks)) == list(enumerate([2, 2, 2, 3, 4]))


def test_one_job_needs_no_joblib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joblib", None)
    assert list(Workers().run(max, 2, [(1,), (3,)])) == [(0, 2), (1, 3)]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(module, "CONNECT_S", 0.5)
    with pytest.raises(PrunecError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        list(Workers(backend="dask", address="tcp://127.0.0.1:1").run(max, 1, [(2,)]))
