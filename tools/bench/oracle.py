"""The oracle over a folder of models: prune each to half its MACs and prove the rewriting.

    python tools/bench/oracle.py DIR [--match 'own.*.legacy.onnx'] [--jobs 2] [--json out.json]

Every file runs in a process of its own, under a time and a memory limit. A budget below the
smallest reachable cost is replaced by the middle between that cost and the dense one, so that
the rewriting is still checked. Exits with 1 when an oracle fails or anything crashes.
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import resource
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prunec.compiler.diagnostics import Diagnostic

BAD = ("FAILED", "CRASHED", "TIMEOUT")


@dataclass(slots=True)
class Row:
    """One file. smallest, reached: MACs as a share of dense; detail: what went wrong."""

    file: str
    result: str = "CRASHED"
    hyperedges: int = 0
    smallest: float | None = None
    reached: float | None = None
    max_error: float | None = None
    exact: bool = False
    seconds: float = 0.0
    diagnostics: dict[str, int] = field(default_factory=dict)
    detail: str = ""


def check(path: Path, budget: str) -> Row:
    """Prune one model with the greedy solver and run the oracle on the result."""
    from prunec.compiler.errors import InfeasibleBudgetError, NothingToPruneError, PrunecError
    from prunec.passes.pipeline import Options, edge_levels
    from prunec.passes.solvers.greedy import Greedy
    from prunec.runtime.compile import Settings, apply_plan, plan_for
    from prunec.runtime.subject import open_model
    from prunec.runtime.verify import verify

    row = Row(path.name)
    options, settings = Options(solver=Greedy()), Settings()
    try:
        subject = open_model(path)
        graph = subject.graph
        row.hyperedges = len(graph.edges)
        row.diagnostics = dict(collections.Counter(reason(d) for d in graph.diagnostics))
        dense = graph.costs["flops"](graph.dense())
        least = graph.costs["flops"]([int(edge_levels(e, None, 1, False)[0]) for e in graph.edges])
        row.smallest = least / dense if dense else None
        try:
            plan = plan_for(subject, budget, options, settings)
        except InfeasibleBudgetError:
            plan = plan_for(subject, f"flops={(least + dense) // 2}", options, settings)
        row.reached = plan.costs["flops"][1] / dense
        report = verify(subject, plan, apply_plan(subject, plan))
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
    return row


def reason(diagnostic: Diagnostic) -> str:
    """What happened, without the names of values: equal for equal causes."""
    cause = re.sub(r"the shape of .* is not", "a shape is not", diagnostic.message)
    return f"{diagnostic.code} ({cause.partition(';')[0]})"


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


def check_apart(path: Path, budget: str, seconds: int, gigabytes: float) -> Row:
    """`check` in a process of its own, with limits."""

    start = time.perf_counter()
    command = [sys.executable, __file__, str(path), "--one", "--budget", budget]
    command += ["--gigabytes", str(gigabytes)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return Row(path.name, "TIMEOUT", seconds=seconds, detail=f"no answer in {seconds} s")
    lines = done.stdout.strip().splitlines()
    try:
        row = Row(**json.loads(lines[-1]))
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        row = Row(path.name, detail=f"exit {done.returncode}: {last}")
    row.seconds = time.perf_counter() - start
    return row


def line(row: Row) -> str:
    """A row of the table."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    count = sum(row.diagnostics.values())
    return (
        f"{row.file:56} {row.result:16} {row.hyperedges:4} {number(row.smallest, '.3f'):>6} "
        f"{number(row.reached, '.4f'):>7} {number(row.max_error, '.1e'):>8} "
        f"{'exact' if row.exact else '-':5} {row.seconds:6.1f} s"
        + (f"  {count} diagnostics" if count else "")
        + (f"\n    {row.detail}" if row.detail else "")
    )


def main() -> int:
    """Check every model, print the table and the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--match", default="*.onnx", help="file name pattern")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--budget", default="flops=0.5")
    parser.add_argument("--seconds", type=int, default=180, help="per file")
    parser.add_argument("--gigabytes", type=float, default=8.0, help="address space per file")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        most = int(a.gigabytes * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        print(json.dumps(asdict(check(a.folder, a.budget))))
        return 0
    files = sorted(a.folder.glob(a.match))
    rows = []
    with ThreadPoolExecutor(a.jobs) as pool:
        waiting = [pool.submit(check_apart, f, a.budget, a.seconds, a.gigabytes) for f in files]
        for row in (w.result() for w in waiting):
            rows.append(row)
            print(line(row), flush=True)
    if a.json:
        a.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print()
    for result, count in sorted(collections.Counter(row.result for row in rows).items()):
        print(f"{result:20} {count}")
    print(f"{'of them exact':20} {sum(row.exact for row in rows)}")
    reasons: collections.Counter[str] = collections.Counter()
    for row in rows:
        reasons.update(row.diagnostics)
    print("\ndiagnostics:")
    for text, count in reasons.most_common():
        print(f"{count:6}  {text}")
    failed = not rows or any(row.result in BAD for row in rows)
    print("FAIL" if failed else "PASS")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
