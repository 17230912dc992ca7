"""Where the points of a sweep are computed: here, in processes, or on a cluster, through joblib."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from prunec.compiler.errors import MissingDependencyError, PrunecError, UsageError, first_line

BACKENDS = ("loky", "threading", "dask", "ray")
CONNECT_S = 20


@dataclass(frozen=True, slots=True)
class Workers:
    """jobs: how many points at once, 0 for one per core; None: one, or all that a backend has.

    backend: one of BACKENDS, or None: loky where there are several jobs. address: of the Dask
    scheduler (tcp://HOST:PORT) or of the Ray cluster.
    """

    jobs: int | None = None
    backend: str | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.backend is not None and self.backend not in BACKENDS:
            raise UsageError(f"--backend is one of {', '.join(BACKENDS)}, not {self.backend!r}")
        if self.jobs is not None and self.jobs < 0:
            raise UsageError(f"--jobs must be at least 0, not {self.jobs}")
        if self.backend == "dask" and not self.address:
            raise UsageError(
                "--backend dask needs --address tcp://HOST:PORT, that of its scheduler"
            )
        if self.address and self.backend not in ("dask", "ray"):
            raise UsageError("--address is for --backend dask or ray")

    @property
    def serial(self) -> bool:
        """Whether points are computed here, one after the other, without joblib."""
        return self.backend is None and self.jobs in (None, 1)

    def run(
        self, function: Callable[..., Any], shared: object, tasks: Sequence[tuple[Any, ...]]
    ) -> Generator[tuple[int, Any]]:
        """``function(shared, *task)`` for every task; yields (index, result) as they finish.

        shared: what all tasks need; a Dask cluster gets it once. Raises MissingDependencyError.
        """
        if self.serial:
            for number, task in enumerate(tasks):
                yield number, function(shared, *task)
            return
        joblib = import_joblib()
        with ExitStack() as stack:
            stack.enter_context(joblib.parallel_config(**self._backend(shared, stack)))
            backend, _ = joblib.parallel.get_active_backend()
            # Ray gives nothing before all is done: then as many at a time as can run at once.
            one_by_one = backend.supports_return_generator
            parallel = joblib.Parallel(
                n_jobs=self._processes,
                batch_size=1,
                return_as="generator_unordered" if one_by_one else "list",
            )
            jobs = len(tasks) if one_by_one else joblib.effective_n_jobs(self._processes)
            at_once = max(jobs, 1)
            for first in range(0, len(tasks), at_once):
                yield from parallel(
                    joblib.delayed(_numbered)(first + k, function, shared, *task)
                    for k, task in enumerate(tasks[first : first + at_once])
                )

    @property
    def _processes(self) -> int:
        return -1 if not self.jobs else self.jobs

    def _backend(self, shared: object, stack: ExitStack) -> dict[str, Any]:
        if self.backend == "dask":
            client = stack.enter_context(_dask_client(self.address))
            return {"backend": "dask", "client": client, "scatter": [shared]}
        if self.backend == "ray":
            _register_ray(self.address)
        return {"backend": self.backend or "loky"}


def _numbered(number: int, function: Callable[..., Any], *arguments: Any) -> tuple[int, Any]:
    return number, function(*arguments)


def import_joblib() -> Any:
    """joblib. Raises MissingDependencyError."""
    try:
        import joblib
    except ImportError as error:
        raise MissingDependencyError(
            "--jobs and --backend need joblib: pip install 'prunec[sweep]'"
        ) from error
    return joblib


def _dask_client(address: str | None) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDependencyError(
            "--backend dask needs distributed: pip install 'prunec[dask]'"
        ) from error
    try:
        connect: Any = Client  # has no types
        return connect(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise PrunecError(f"no Dask scheduler answers at {address}: {first_line(error)}") from error


def _register_ray(address: str | None) -> None:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise MissingDependencyError("--backend ray needs Ray: pip install ray") from error
    if address and not ray.is_initialized():
        ray.init(address=address, log_to_driver=False)
    register_ray()
