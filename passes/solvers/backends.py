"""HiGHS and CBC behind PuLP: one answer type, bounds and failures read by us."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from prunec.compiler.errors import MissingDependencyError, SolverError, UsageError

if TYPE_CHECKING:
    import pulp

SEED = 1
GRACE = 2.0  # seconds beyond its time limit after which CBC is killed


class Verdict(Enum):
    """How a back end ended; PuLP's own status says "Optimal" after a time limit too."""

    FINISHED = "finished"  # optimal within the gap asked for
    STOPPED = "stopped"  # time limit
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"


@dataclass(frozen=True, slots=True)
class Request:
    """What a back end is asked for. integer: False solves the LP relaxation."""

    integer: bool
    gap: float
    time_limit: float
    threads: int
    start: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A back end's word on a minimisation, still to be checked.

    values: by variable name, empty without a solution. reduced_costs: by variable name, for LPs.
    bound: lower bound of the PuLP objective. duals: by row name, for LPs: change of the objective
    with the right-hand side.
    """

    verdict: Verdict
    values: Mapping[str, float]
    bound: float | None
    reduced_costs: Mapping[str, float]
    duals: Mapping[str, float] = field(default_factory=dict)


def run(backend: str, program: pulp.LpProblem, request: Request) -> Answer:
    """Run one back end on a PuLP problem, silently.

    Raises SolverError if the back end is missing, crashes or ends in an unknown state.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PuLP announces its version 4
            return BACKENDS[backend](program, request)
    except SolverError:
        raise
    except Exception as error:  # whatever a foreign library raises is a crash of the back end
        raise SolverError(f"solver back end {backend} failed: {error}") from error


def choose(backend: str) -> str:
    """The back end's name; "auto" is HiGHS if it is installed, else CBC.

    Raises UsageError for an unknown name, MissingDependencyError if HiGHS is asked for and absent.
    """
    if backend not in ("auto", *BACKENDS):
        raise UsageError(f"unknown back end {backend!r} of milp; choose auto, highs or cbc")
    installed = importlib.util.find_spec("highspy") is not None
    if backend == "highs" and not installed:
        raise MissingDependencyError("milp{backend=highs} needs highspy: pip install prunec[highs]")
    if backend != "auto":
        return backend
    return "highs" if installed else "cbc"


# HiGHS has one scheduler per process: a second solve beside the first is refused.
_ONE_AT_A_TIME = threading.Lock()


def _run_highs(program: pulp.LpProblem, request: Request) -> Answer:
    with _ONE_AT_A_TIME:
        return _solve_with_highs(program, request)


def _solve_with_highs(program: pulp.LpProblem, request: Request) -> Answer:
    import highspy  # noqa: PLC0415 (optional)
    import pulp  # noqa: PLC0415 (slow to import)

    # HiGHS keeps one pool of threads per process and refuses another size.
    highspy.Highs.resetGlobalScheduler(True)
    solver = pulp.HiGHS(
        mip=request.integer,
        msg=False,
        gapRel=request.gap,
        gapAbs=0.0,
        timeLimit=max(0.0, request.time_limit),
        threads=request.threads,
        random_seed=SEED,
    )
    # PuLP's steps one by one: its status table is not needed, the dual bound is.
    solver.createAndConfigureSolver(program)
    solver.buildSolverModel(program)
    highs = program.solverModel
    if request.start:
        given = [
            (v.index, request.start[v.name]) for v in program.variables() if v.name in request.start
        ]
        highs.setSolution(len(given), [i for i, _ in given], [x for _, x in given])
    _solve_interruptibly(highs)
    verdict = {
        highspy.HighsModelStatus.kOptimal: Verdict.FINISHED,
        highspy.HighsModelStatus.kModelEmpty: Verdict.FINISHED,
        highspy.HighsModelStatus.kTimeLimit: Verdict.STOPPED,
        highspy.HighsModelStatus.kIterationLimit: Verdict.STOPPED,
        highspy.HighsModelStatus.kInterrupt: Verdict.STOPPED,
        highspy.HighsModelStatus.kInfeasible: Verdict.INFEASIBLE,
        highspy.HighsModelStatus.kUnboundedOrInfeasible: Verdict.INFEASIBLE,
        highspy.HighsModelStatus.kUnbounded: Verdict.UNBOUNDED,
    }.get(highs.getModelStatus())
    if verdict is None:
        raise SolverError(f"HiGHS ended with {highs.modelStatusToString(highs.getModelStatus())}")
    return _read_highs(program, request, verdict)


def _read_highs(program: pulp.LpProblem, request: Request, verdict: Verdict) -> Answer:
    """HiGHS's answer: what of it can be used after this verdict."""
    import highspy  # noqa: PLC0415 (optional)

    highs, variables, rows = program.solverModel, program.variables(), program.constraints()
    info, solution = highs.getInfo(), highs.getSolution()
    solved = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    usable = solved and (request.integer or verdict is Verdict.FINISHED)
    columns, costs = list(solution.col_value), list(solution.col_dual)
    bound = info.mip_dual_bound if request.integer else info.objective_function_value
    relaxed = usable and not request.integer
    return Answer(
        verdict,
        {v.name: columns[v.index] for v in variables} if usable else {},
        float(bound) if abs(bound) < 1e30 and (usable or request.integer) else None,
        {v.name: costs[v.index] for v in variables} if relaxed else {},
        {row.name: x for row, x in zip(rows, solution.row_dual, strict=True) if row.name}
        if relaxed
        else {},
    )


def _solve_interruptibly(highs: Any) -> None:
    """Solve in a thread: a signal can't reach Python while HiGHS holds the main one."""
    highs.HandleUserInterrupt = True
    thread = highs.startSolve()
    try:
        while not highs.wait(0.1)[0]:
            pass
    except KeyboardInterrupt:
        highs.cancelSolve()
        thread.join()
        raise


def _run_cbc(program: pulp.LpProblem, request: Request) -> Answer:
    """PuLP's way with CBC, but for one thing: it ends `GRACE` seconds after its limit at latest.

    CBC looks at its clock between its steps only, and one may take a minute: completing a start.
    """
    import pulp  # noqa: PLC0415 (slow to import)

    end = time.monotonic() + request.time_limit
    solver = pulp.PULP_CBC_CMD(msg=False)
    if not solver.available():
        solver = pulp.COIN_CMD(msg=False)
    if not solver.available():
        raise SolverError(f"CBC is not there, or can't be run: {solver.path}")
    with tempfile.TemporaryDirectory(prefix="prunec-cbc-") as folder:
        model, start, found, log = (Path(folder) / name for name in ("mps", "mst", "sol", "log"))
        names = program.writeMPS(str(model), rename=1)[:3]
        words = [str(solver.path), str(model)]
        if request.start:
            for variable in program.variables():
                variable.setInitialValue(request.start.get(variable.name, 0.0), check=False)
            solver.writesol(str(start), program, *names)
            words += ["-mips", str(start)]
        left = max(0.01, end - time.monotonic())
        words += ["-sec", str(left), "-timeMode", "elapsed", "-ratio", str(request.gap)]
        words += ["-randomSeed", str(SEED), "-randomCbcSeed", str(SEED)]
        words += ["-threads", str(request.threads)] if request.threads > 1 else []
        words += ["-solve" if request.integer else "-initialSolve"]
        words += ["-printingOptions", "all", "-solution", str(found)]
        if not _ended(words, log, left + GRACE):
            return Answer(Verdict.STOPPED, {}, None, {})
        _, values, reduced_costs, duals, _, _ = solver.readsol_MPS(str(found), program, *names)
        program.assignVarsVals(values)
        program.assignVarsDj(reduced_costs)
        program.assignConsPi(duals)
        return _read_cbc(program, request, log.read_text(errors="replace"))


def _ended(words: list[str], log: Path, seconds: float) -> bool:
    """Run a program; False if it had to be killed. Raises SolverError if it fails."""
    hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    with log.open("w") as out:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, creationflags=hidden
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        finally:
            process.kill()  # does nothing to one that has ended
            process.wait()
    if code:
        raise SolverError(f"solver back end cbc failed: it ended with code {code}")
    return True


def _read_cbc(program: pulp.LpProblem, request: Request, log: str) -> Answer:
    """CBC's answer from the values that PuLP has read and from its log."""
    values = {v.name: v.varValue for v in program.variables()}
    if not request.integer:
        objective = re.search(
            r"^Optimal - objective value (\S+)|^Optimal objective +(\S+)", log, re.M
        )
        if objective is None:
            infeasible = re.search(r"infeasible", log, re.I)
            return Answer(Verdict.INFEASIBLE if infeasible else Verdict.STOPPED, {}, None, {})
        costs = {v.name: v.dj or 0.0 for v in program.variables()}
        duals = {row.name: row.pi or 0.0 for row in program.constraints() if row.name}
        return Answer(Verdict.FINISHED, values, program.objective.value(), costs, duals)
    result = re.findall(r"^Result - (.*)$", log, re.M)
    lower = re.findall(r"^Lower bound: +(\S+)", log, re.M)
    bound = float(lower[-1]) - 1e-3 if lower else None  # printed with three decimals
    if not result or "infeasible" in result[-1].lower():
        # "Infeasible or unbounded" is the first: HiGHS's verdict is read like that too.
        for verdict in (Verdict.INFEASIBLE, Verdict.UNBOUNDED):
            if verdict.value in log.lower():
                return Answer(verdict, {}, None, {})
        raise SolverError("CBC ended without a result")
    if "unbounded" in result[-1].lower():
        return Answer(Verdict.UNBOUNDED, {}, None, {})
    found = "No feasible solution found" not in log
    finished = result[-1].startswith("Optimal")
    if finished and bound is None:
        objective = program.objective.value()
        bound = objective - request.gap * abs(objective)
    return Answer(
        Verdict.FINISHED if finished else Verdict.STOPPED, values if found else {}, bound, {}
    )


BACKENDS: Mapping[str, Callable[[pulp.LpProblem, Request], Answer]] = MappingProxyType(
    {"highs": _run_highs, "cbc": _run_cbc}
)
