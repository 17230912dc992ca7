"""The stages of a sweep: decide every point, check it, measure it; each is kept when it is done."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prunec.compiler.errors import PrunecError, VerificationError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.plan import Plan
from prunec.compiler.problem import FloatArray
from prunec.frontends.onnx import save
from prunec.passes.options import Options
from prunec.passes.pairwise.importance import Importance
from prunec.passes.pipeline import Choice, decide, limits_of, plan_of
from prunec.runtime.accuracy import Accuracy, report_data
from prunec.runtime.bench import BenchResult
from prunec.runtime.compile import (
    Progress,
    Settings,
    compile_model,
    recovery_of,
    with_rules,
)
from prunec.runtime.data import DataSpec
from prunec.runtime.inputs import model_inputs
from prunec.runtime.scores import scored
from prunec.runtime.subject import Subject
from prunec.runtime.sweep import keys
from prunec.runtime.sweep.points import Latency, Point, State, model_name
from prunec.runtime.sweep.store import WEIGHTS, Store, prepare
from prunec.runtime.sweep.work import (
    Checked,
    Failure,
    Numbers,
    Place,
    accuracy_of,
    bare,
    check,
    check_point,
    decide_point,
    failure,
    forget,
)
from prunec.runtime.sweep.workers import Workers


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """What a sweep does besides deciding.

    folder: where plans and results go and are found again, or None. prove: verify every point, not
    only the models that are written. models: write the pruned models. knee: write that of the
    knee. against: the resource, or "time", that losses are set against; None: the ranged one.
    """

    folder: Path | None = None
    workers: Workers = field(default_factory=Workers)
    prove: bool = False
    models: bool = False
    knee: bool = False
    against: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What is swept, and how. graph: with latency among its costs, where that is budgeted; record:
    what plans then say of it (`priced`).
    """

    subject: Subject
    graph: Hypergraph
    record: Mapping[str, Any]
    options: Options
    settings: Settings
    how: SweepSettings
    progress: Progress


class Stages:
    """The state of one sweep; lives inside `sweep` (run.py)."""

    def __init__(self, job: Job, labels: Sequence[str]) -> None:
        self.job, self.settings, self.how = job, job.settings, job.how
        self.subject, settings, how = job.subject, job.settings, job.how
        self.limits = limits = [limits_of(job.graph, label) for label in labels]
        if how.folder is not None:
            prepare(how.folder)
        judged = settings.data is not None or settings.eval_data is not None
        weights = keys.recovery_key(settings)
        parts = {WEIGHTS: weights}
        parts |= {"accuracy": f"{keys.accuracy_key(settings)} {weights}"} if judged else {}
        parts |= {"latency": keys.latency_key(settings)} if settings.bench else {}
        self.store = Store(how.folder, parts)
        # Hashing all weights is for those who come back only.
        self.model_key = (
            ""
            if how.folder is None
            else keys.model_key(job.subject, job.options, settings, job.record)
        )
        self.keys = [keys.point_key(self.model_key, job.graph, x) for x in limits]
        self.points = [
            Point(label, {x.resource: x.at_most for x in own}, State.FAILED)
            for label, own in zip(labels, limits, strict=True)
        ]
        self.open = []
        for k, point in enumerate(self.points):
            known = self.store.read(point, self.keys[k])
            if known is None:
                self.open.append(k)
            else:
                self.points[k] = known
        self.dense_accuracy: Accuracy | None = None

    def decide(self) -> None:
        """Score once, solve the points that are open."""
        if not self.open:
            return
        graph, options = self.job.graph, self.job.options
        self.job.progress("scoring")
        found = scored(self.subject, graph, options, self.settings, self.job.progress)
        if options.grouping.active:
            self._decide_groups(found.values)
            return
        whole = Numbers(graph, found.values, options)
        numbers = replace(whole, graph=bare(graph))
        tasks = [(self.limits[k],) for k in self.open]
        self._say("choosing", 0, len(tasks))
        with closing(self.how.workers.run(decide_point, numbers, tasks)) as results:
            for done, (number, result) in enumerate(results, 1):
                k = self.open[number]
                out_of_reach = isinstance(result, Failure) and result.state is State.INFEASIBLE
                # Again with the whole graph: the message then names what holds the rest.
                self._decided(k, decide_point(whole, self.limits[k]) if out_of_reach else result)
                self._say("choosing", done, len(tasks))

    def _decide_groups(self, values: FloatArray | Importance) -> None:
        """The same one after the other: how many groups there may be depends on the limits, and
        blocks are looked for in the sliced model of each point.
        """
        from prunec.runtime.grouping import check_company, group_dials, without_dead

        job, options = self.job, self.job.options
        check_company(options)
        timed = replace(self.subject, graph=job.graph)
        for done, k in enumerate(self.open):
            self._say("choosing", done, len(self.open))
            limits = self.limits[k]
            try:
                dials = group_dials(timed, limits, options, self.settings, job.progress)
                choice = decide(job.graph, values, limits, options, dials=dials)
                self._decided(k, without_dead(self.subject, choice, options))
            except PrunecError as error:
                self._fail(k, failure(error))

    def _decided(self, k: int, result: Choice | Failure) -> None:
        if isinstance(result, Failure):
            self._fail(k, result)
            return
        job, digest = self.job, self.subject.digest
        plan = plan_of(job.graph, result, self.limits[k], job.options, digest)
        plan = replace(plan, options={**plan.options, **job.record})
        if job.options.grouping.active:
            from prunec.runtime.grouping import grouped_plan

            settings = self.settings
            plan = grouped_plan(self.subject, plan, result, job.options, settings, job.progress)
        self.store.drop(self.points[k].label)
        self._keep(
            k,
            replace(
                self.points[k],
                state=State.DONE,
                plan=with_rules(job.subject, plan),
                dense_objective=result.dense_objective,
            ),
        )

    def check(self) -> None:
        """Prove the points and measure accuracy, where that is asked for and not known."""
        data = self._labelled()
        wanted = [
            k
            for k, p in enumerate(self.points)
            if p.plan is not None
            and (
                (self.how.prove and p.verification is None)
                or (data is not None and p.accuracy is None)
            )
        ]
        if data is not None:
            self._measure_dense(data)
        if not wanted:
            return
        tasks = [(plan,) for k in wanted if (plan := self.points[k].plan) is not None]
        self._say("checking", 0, len(tasks))
        with self._place(data) as place, closing(self._checks(place, tasks)) as results:
            for done, (number, result) in enumerate(results, 1):
                self._checked(wanted[number], result)
                self._say("checking", done, len(tasks))
        forget()

    def _checks(
        self, place: Place, tasks: Sequence[tuple[Plan]]
    ) -> Generator[tuple[int, Checked | Failure]]:
        if not self.how.workers.serial:
            yield from self.how.workers.run(check_point, place, tasks)
            return
        for number, (plan,) in enumerate(tasks):
            yield number, check(self.subject, plan, place)

    def _checked(self, k: int, result: Checked | Failure) -> None:
        if isinstance(result, Failure):
            self._fail(k, result)
            return
        point = self.points[k]
        self._keep(
            k,
            replace(
                point,
                plan=result.plan,
                verification=result.verification or point.verification,
                accuracy=self._accuracy(result) or point.accuracy,
            ),
        )

    def _accuracy(self, result: Checked) -> Accuracy | None:
        """By the names that the user gave: workers know files of metrics by their full paths."""
        found, dense = result.accuracy, self.dense_accuracy
        if found is None or dense is None:
            return found
        names = [name for name, _ in dense.values]
        values = [value for _, value in found.values]
        return replace(found, values=tuple(zip(names, values, strict=True)))

    def _labelled(self) -> DataSpec | None:
        """The data that accuracy is measured on, if there is any."""
        settings, inputs = self.settings, model_inputs(self.subject.model)
        data = report_data(settings.data, settings.eval_data, settings.metrics, inputs)
        return None if data is None else data.spec

    def _measure_dense(self, data: DataSpec) -> None:
        key = f"{self.model_key} {keys.accuracy_key(self.settings)}"
        self.dense_accuracy = self.store.read_dense(key)
        if self.dense_accuracy is None:
            self.job.progress("measuring the dense model")
            subject = self.subject
            self.dense_accuracy = accuracy_of(subject, subject.model, data, self.settings)
            self.store.write_dense(self.dense_accuracy, key)

    @contextmanager
    def _place(self, data: DataSpec | None) -> Iterator[Place]:
        """Where workers find the model: its file, or one that is written for them."""
        subject, settings = self.subject, self.settings
        with tempfile.TemporaryDirectory(prefix="prunec-") as folder:
            path = subject.path
            if path is None:
                path = Path(folder) / "dense.onnx"
                if not self.how.workers.serial:
                    save(subject.source, path)
            yield Place(
                path=absolute(str(path)),
                shapes=tuple(sorted((n, tuple(s)) for n, s in settings.shapes.items())),
                freedom=subject.graph.freedom,
                rules=tuple(
                    absolute(str(r)) if isinstance(r, str | Path) else r for r in settings.rules
                ),
                prove=self.how.prove,
                data=None if data is None else replace(data, path=absolute(data.path)),
                metrics=tuple(absolute(m) if isinstance(m, str) else m for m in settings.metrics),
                recover=settings.recover,
                calibration=None
                if settings.data is None
                else replace(settings.data, path=absolute(settings.data.path)),
                provider=settings.provider,
                threads=settings.threads,
            )

    def measure(self) -> None:
        """Latency and models, one point after the other."""
        for k, point in enumerate(self.points):
            if point.plan is None:
                continue
            write = self.how.models and point.model is None
            time = self.settings.bench and point.latency is None
            if write or time:
                self._say("measuring" if time else "writing", k + 1, len(self.points))
                self._compile(k, write, time)

    def write_model(self, k: int) -> None:
        """Write the pruned model of a point, unless it is there."""
        if self.points[k].model is None:
            self._compile(k, True, False)

    def _compile(self, k: int, write: bool, time: bool) -> None:
        point, folder = self.points[k], self.how.folder
        assert point.plan is not None
        out = folder / model_name(point.label) if write and folder is not None else None
        # Latency does not depend on the numbers in weights.
        recovers = write and recovery_of(self.settings) is not None
        settings = replace(
            self.settings,
            accuracy=False,
            recover=self.settings.recover if recovers else "none",
            bench=time,
            min_speedup=None,
            verify=self.settings.verify and write and (recovers or point.verification is None),
        )
        try:
            result = compile_model(self.subject, point.plan, settings, out)
        except VerificationError as error:
            self._fail(k, Failure(State.WRONG, str(error)))
            return
        found, timings = result.report.verification, result.report.bench
        self._keep(
            k,
            replace(
                point,
                plan=result.plan if write else point.plan,
                model=point.model if out is None else out.name,
                verification=point.verification if found is None else found.to_dict(),
                latency=point.latency if timings is None else _latency(timings),
            ),
        )

    def _keep(self, k: int, point: Point) -> None:
        self.points[k] = point
        self.store.write(point, self.keys[k])

    def _fail(self, k: int, failed: Failure) -> None:
        point = self.points[k]
        self.store.drop(point.label)
        self._keep(k, Point(point.label, point.limits, state=failed.state, message=failed.message))

    def _say(self, what: str, done: int, count: int) -> None:
        self.job.progress(f"{what}: {done} of {count} points")


def _latency(timings: BenchResult) -> Latency:
    (ratio,), (dense, pruned) = timings.ratios, timings.models
    return Latency(
        dense_s=dense.median_s,
        pruned_s=pruned.median_s,
        speedup=ratio.ratio,
        low=ratio.low,
        high=ratio.high,
        provider=timings.provider,
        threads=timings.threads,
    )


def absolute(path: str) -> str:
    """The same for a worker in another folder; names of modules stay as they are.

    >>> absolute("json:loads")
    'json:loads'
    """
    if Path(path).exists():
        return str(Path(path).resolve())
    file, colon, function = path.rpartition(":")
    return f"{Path(file).resolve()}:{function}" if colon and Path(file).is_file() else path
