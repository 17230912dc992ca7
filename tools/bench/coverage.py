"""Coverage over a folder of models: how much of each can be pruned, and is the result right?

    python tools/bench/coverage.py DIR [--match '*.onnx'] [--residual] [--heads] [--table out.md]

Every file is pruned to a budget (greedy solver, alignment 1), written, loaded again and held
against the oracle, in a process of its own under a time and a memory limit. A budget below the
smallest reachable cost is replaced by the middle between that cost and the dense one, so that
the rewriting is still checked. Exits with 1 when an oracle fails or anything crashes.
"""

from __future__ import annotations

import argparse
import collections
import json
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from verdict import markdown

BAD = ("FAILED", "CRASHED", "TIMEOUT")


@dataclass(slots=True)
class Row:
    """One file. prunable, smallest, reached: MACs as a share of dense. barriers: share of the
    dense MACs that stays, by reason. megabytes: peak resident memory of the worker.
    """

    file: str
    result: str = "CRASHED"
    producer: str = ""
    nodes: int = 0
    hyperedges: int = 0
    prunable: float | None = None
    smallest: float | None = None
    reached: float | None = None
    met: bool = False
    max_error: float | None = None
    exact: bool = False
    barriers: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    megabytes: float = 0.0
    detail: str = ""


def check(path: Path, a: argparse.Namespace) -> Row:
    """Prune one model and run the oracle on the written result."""
    from prunec.compiler.coverage import coverage
    from prunec.compiler.errors import InfeasibleBudgetError, NothingToPruneError, PrunecError
    from prunec.compiler.freedom import Freedom
    from prunec.frontends.onnx import load, save
    from prunec.passes.options import Options
    from prunec.passes.solvers.greedy import Greedy
    from prunec.runtime.compile import Settings, apply_plan, plan_for
    from prunec.runtime.subject import open_model
    from prunec.runtime.verify import verify

    row = Row(path.name)
    options, settings = Options(solver=Greedy(), align=1), Settings()
    try:
        subject = open_model(path, freedom=Freedom(residual=a.residual, heads=a.heads))
        graph = subject.graph
        row.producer = subject.source.producer_name or "?"
        row.nodes, row.hyperedges = len(subject.source.graph), len(graph.edges)
        covered = coverage(graph).resources["flops"]
        dense, least = covered.dense, graph.costs["flops"]([1] * len(graph.edges))
        row.prunable, row.smallest = covered.prunable, covered.smallest
        row.barriers = {reason.value: share for reason, share in covered.barriers.items()}
        try:
            plan = plan_for(subject, a.budget, options, settings)
            row.met = True
        except InfeasibleBudgetError:
            plan = plan_for(subject, f"flops={(least + dense) // 2}", options, settings)
        row.reached = plan.costs["flops"][1] / dense
        with tempfile.TemporaryDirectory(prefix="prunec-") as folder:
            out = Path(folder) / "pruned.onnx"
            save(apply_plan(subject, plan), out)
            report = verify(subject, plan, load(out), out)
        row.result = "passed" if report.passed else "FAILED"
        row.max_error = report.max_error
        row.exact = any("equal in every bit" in c.detail for c in report.checks if c.passed)
        row.detail = "; ".join(f"{c.name}: {c.detail}" for c in report.checks if not c.passed)
        if not report.passed and not runs(path):
            row.result = "dense unusable"
    except NothingToPruneError as error:
        row.result, row.detail = "nothing to prune", str(error)
    except PrunecError as error:
        row.result, row.detail = "refused", f"{type(error).__name__}: {error}"
    except Exception:  # a crash is what this script looks for
        row.detail = " | ".join(traceback.format_exc(limit=-3).strip().splitlines())
    row.megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return row


def runs(path: Path) -> bool:
    """Whether onnxruntime runs the dense model, without which there is no oracle."""
    from prunec.compiler.errors import PrunecError
    from prunec.runtime.inputs import random_feeds
    from prunec.runtime.session import make_session

    try:
        session = make_session(path, optimise=False)
        session.run(random_feeds(session.inputs, 0))
    except PrunecError:
        return False
    return True


def check_apart(path: Path, a: argparse.Namespace) -> Row:
    """`check` in a process of its own, with limits."""
    start = time.perf_counter()
    flags = [f for f in ("--residual", "--heads") if getattr(a, f[2:])]
    command = [sys.executable, __file__, str(path), "--one", "--budget", a.budget, *flags]
    command += ["--gigabytes", str(a.gigabytes)]
    limits = {"capture_output": True, "text": True, "timeout": a.seconds}
    try:
        done = subprocess.run(command, check=False, **limits)
    except subprocess.TimeoutExpired:
        return Row(path.name, "TIMEOUT", seconds=a.seconds, detail=f"no answer in {a.seconds} s")
    lines = done.stdout.strip().splitlines()
    try:
        row = Row(**json.loads(lines[-1]))
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        row = Row(path.name, detail=f"exit {done.returncode}: {last}")
    row.seconds = time.perf_counter() - start
    return row


COLUMNS = (
    "file", "producer", "nodes", "prunable", "smallest", "reached", "oracle", "error",
    "stays because of", "s", "MB",
)  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    barriers = sorted(row.barriers.items(), key=lambda b: -b[1])
    return (
        row.file,
        row.producer,
        str(row.nodes),
        number(row.prunable, ".1%"),
        number(row.smallest, ".3f"),
        number(row.reached, ".4f"),
        row.result + (", exact" if row.exact else ""),
        number(row.max_error, ".0e"),
        ", ".join(f"{reason} {share:.1%}" for reason, share in barriers[:3] if share >= 0.001),
        f"{row.seconds:.1f}",
        f"{row.megabytes:.0f}",
    )


def summary(rows: list[Row]) -> list[str]:
    """Counts of the results, and how many files reach the budget."""
    lines = [
        f"{result:20} {count}"
        for result, count in sorted(collections.Counter(row.result for row in rows).items())
    ]
    # A file without an answer has not met the budget.
    prunable = [row for row in rows if row.hyperedges or row.result in BAD]
    met = sum(row.met for row in prunable)
    return [
        *lines,
        f"{'exact':20} {sum(row.exact for row in rows)}",
        f"budget met           {met} of {len(prunable)} files with prunable weights",
        f"slowest              {max((row.seconds for row in rows), default=0):.1f} s",
        f"largest              {max((row.megabytes for row in rows), default=0):.0f} MB",
    ]


def main() -> int:
    """Check every model, print the table and the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--match", default="*.onnx", help="file name pattern")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--budget", default="flops=0.5")
    parser.add_argument("--residual", action="store_true", help="as for prunec")
    parser.add_argument("--heads", action="store_true", help="as for prunec")
    parser.add_argument("--seconds", type=int, default=120, help="per file")
    parser.add_argument("--gigabytes", type=float, default=4.0, help="of private memory per file")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    parser.add_argument("--table", type=Path, help="write the table there as Markdown")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        most = int(a.gigabytes * 2**30)
        # Not the address space: the mapped model file and idle threads' stacks would count.
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        print(json.dumps(asdict(check(a.folder, a))))
        return 0
    rows = []
    with ThreadPoolExecutor(a.jobs) as pool:
        waiting = [pool.submit(check_apart, f, a) for f in sorted(a.folder.glob(a.match))]
        for row in (w.result() for w in waiting):
            rows.append(row)
            print("  ".join(cells(row)), flush=True)
            if row.detail:
                print(f"    {row.detail}", flush=True)
    if a.json:
        a.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if a.table:
        a.table.write_text(markdown(COLUMNS, [cells(row) for row in rows]))
    print("\n" + "\n".join(summary(rows)))
    failed = not rows or any(row.result in BAD for row in rows)
    print("FAIL" if failed else "PASS")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
