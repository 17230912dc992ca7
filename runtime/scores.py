"""Scores of channel groups in a file: computed once, used for any number of budgets."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunec.compiler.errors import OutputError, ScoresError, UsageError
from prunec.compiler.extensions import extended
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray
from prunec.compiler.spec import parse, render
from prunec.frontends.digest import weights_digest
from prunec.passes.criteria import CRITERIA
from prunec.passes.criteria.magnitude import Magnitude
from prunec.passes.options import Options
from prunec.passes.pairwise.importance import Importance
from prunec.passes.pairwise.objectives import Pairwise
from prunec.passes.pipeline import VERSIONED, score
from prunec.runtime.stage import staged, write_text
from prunec.runtime.subject import Subject

if TYPE_CHECKING:
    from prunec.compiler.stats import Stats
    from prunec.runtime.compile import Progress, Settings

SCHEMA = 1
FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "schema": int,
    "sha256": str,
    "graph_sha256": str,
    "weights_sha256": str,
    "criterion": str,
    "data": (dict, type(None)),
    "samples": int,
    "versions": dict,
    "hyperedges": dict,
}


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What a criterion said of a dense model.

    hyperedges: name -> (size,) scores, float64, in the order of its groups. graph_sha256,
    weights_sha256: of the dense model. criterion: its specification. data, samples: what it was
    shown, None and 0 for nothing. versions: of the packages that computed it.
    """

    hyperedges: Mapping[str, FloatArray] = field(repr=False)
    graph_sha256: str
    weights_sha256: str
    criterion: str
    data: Mapping[str, Any] | None = None
    samples: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of everything that is in it."""
        return hashlib.sha256(json.dumps(self._body(), sort_keys=True).encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """What a plan says of it."""
        return {"sha256": self.sha256, "samples": self.samples}

    def _body(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "graph_sha256": self.graph_sha256,
            "weights_sha256": self.weights_sha256,
            "criterion": self.criterion,
            "data": None if self.data is None else dict(self.data),
            "samples": self.samples,
            "versions": dict(self.versions),
            "hyperedges": {name: own.tolist() for name, own in self.hyperedges.items()},
        }

    def to_json(self) -> str:
        """Text, a hyperedge a line; floats are written so that they come back exactly."""
        body = {"sha256": self.sha256, **self._body()}
        rows = [f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in body.pop("hyperedges").items()]
        lines = [f"  {json.dumps(k)}: {json.dumps(v, sort_keys=True)}" for k, v in body.items()]
        lines.append('  "hyperedges": {\n' + ",\n".join(rows) + "\n  }")
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def save(self, path: str | Path) -> None:
        """Write the file atomically, as NumPy arrays where it is named .npz. Raises OutputError."""
        target = Path(path)
        with staged([target]) as stage:
            if target.suffix == ".npz":
                self._save_arrays(stage[target])
            else:
                write_text(stage[target], self.to_json())

    def _save_arrays(self, path: Path) -> None:
        body = {"sha256": self.sha256, **self._body()}
        names = list(body.pop("hyperedges"))
        about = json.dumps({**body, "hyperedges": names}, sort_keys=True)
        arrays = {str(k): self.hyperedges[name] for k, name in enumerate(names)}
        try:
            np.savez(path, allow_pickle=False, about=np.array(about), **arrays)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error

    def of(self, subject: Subject, graph: Hypergraph) -> FloatArray:
        """(number_of_groups,) scores in the order of `graph`, a coupling of the same model.

        Raises ScoresError for another model or other weights, and where channels were coupled
        into other groups.
        """
        again = "compute them anew with --save-scores"
        if self.graph_sha256 != subject.digest:
            raise ScoresError(f"the scores are of another model; {again}")
        if self.weights_sha256 != weights_digest(subject.model):
            raise ScoresError(f"the scores are of this model with other weights; {again}")
        sizes = {name: len(own) for name, own in self.hyperedges.items()}
        for edge in graph.edges:
            if sizes.get(edge.name) != edge.size:
                raise ScoresError(
                    f"hyperedge {edge.name!r} has {edge.size} channel groups, the scores have "
                    f"{sizes.get(edge.name, 'none')}: they were computed with other --residual, "
                    f"--heads, --decouple, --kernel-positions or --rules; {again}"
                )
        return np.concatenate([np.zeros(0), *(self.hyperedges[e.name] for e in graph.edges)])


def read_scores(path: str | Path) -> Scores:
    """Read a file that `Scores.save` wrote. Raises ScoresError."""
    try:
        body = _read_arrays(Path(path)) if Path(path).suffix == ".npz" else _read_text(Path(path))
    except OSError as error:
        raise ScoresError(f"{path}: {error.strerror or error}") from error
    # NumPy and zipfile raise all of these for files that are damaged.
    except (ValueError, KeyError, EOFError, RecursionError, zipfile.BadZipFile) as error:
        raise ScoresError(f"{path}: is not a file of scores: {error}") from error
    try:
        return _parsed(body)
    except ScoresError as error:
        raise ScoresError(f"{path}: {error}") from error


def _read_text(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_arrays(path: Path) -> Any:
    # NumPy leaves a file open that it can't read.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        body = json.loads(str(stored["about"]))
        names = body["hyperedges"] if isinstance(body, dict) else []
        return body | {"hyperedges": {n: stored[str(k)].tolist() for k, n in enumerate(names)}}


def _parsed(body: Any) -> Scores:
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise ScoresError(f"is not a file of scores of schema {SCHEMA}")
    for key, kind in FIELDS.items():
        if not isinstance(body.get(key), kind) or isinstance(body.get(key), bool):
            raise ScoresError(f"$.{key}: is missing or of another type")
    found = Scores(
        {name: _numbers(name, own) for name, own in body["hyperedges"].items()},
        **{key: body[key] for key in FIELDS if key not in ("schema", "sha256", "hyperedges")},
    )
    if found.sha256 != body["sha256"]:
        raise ScoresError("was edited or damaged: its sha256 is not that of what it holds")
    return found


def _numbers(name: str, own: Any) -> FloatArray:
    if not isinstance(own, list) or not all(type(x) is float for x in own):
        raise ScoresError(f"$.hyperedges[{name!r}]: must be a list of floats")
    array = np.array(own, np.float64)
    if not (np.isfinite(array) & (array >= 0)).all():
        raise ScoresError(f"$.hyperedges[{name!r}]: scores must be finite and at least 0")
    return array


def compute(
    subject: Subject, options: Options, settings: Settings, progress: Progress
) -> tuple[FloatArray, Scores]:
    """Collect the evidence and score every channel group of the subject. Raises UsageError."""
    from prunec.runtime.compile import calibrate

    stats = calibrate(subject, options, settings, progress)
    progress("scoring")
    return _by(stats, subject, options, settings)


def _by(
    stats: Stats | None, subject: Subject, options: Options, settings: Settings
) -> tuple[FloatArray, Scores]:
    values = options.criterion(subject.model, subject.graph, stats)
    shown = settings.data if options.criterion.needs else None
    return values, Scores(
        {e.name: values[e.first : e.first + e.size] for e in subject.graph.edges},
        subject.digest,
        weights_digest(subject.model),
        render(options.criterion),
        None if shown is None else json.loads(json.dumps(asdict(shown))),
        0 if stats is None else stats.samples,
        {name: importlib.metadata.version(name) for name in VERSIONED},
    )


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """values: what `decide` takes. options: with the criterion that made them. record: what plans
    say of where they come from, for `Plan.options`.
    """

    values: FloatArray | Importance
    options: Options
    record: Mapping[str, Any]


def scored(
    subject: Subject, graph: Hypergraph, options: Options, settings: Settings, progress: Progress
) -> Scored:
    """Scores as the settings say: from a file, or computed, and saved where that is asked for.

    graph: of the subject, maybe with latency among its costs. Raises UsageError, ScoresError,
    OutputError.
    """
    from prunec.runtime.compile import calibrate

    options, given = with_scores(options, settings)
    if given is not None:
        return Scored(given.of(subject, graph), options, {"scores": given.record()})
    if settings.save_scores is None:
        stats = calibrate(subject, options, settings, progress)
        values = score(subject.model, graph, options, stats)
        return Scored(values, options, {} if stats is None else stats.record)
    target = Path(settings.save_scores)
    _check_target(target, subject)
    stats = calibrate(subject, options, settings, progress)
    progress("scoring")
    values, found = _by(stats, subject, options, settings)
    found.save(target)
    return Scored(values, options, {} if stats is None else stats.record)


def _check_target(target: Path, subject: Subject) -> None:
    """Refuse what can't be written before the work, not after it. Raises OutputError."""
    if target.is_dir():
        raise OutputError(f"{target}: is a directory; give a file name")
    if not target.parent.is_dir():
        raise OutputError(f"{target}: the folder {target.parent} does not exist")
    if subject.path is not None and target.exists() and target.samefile(subject.path):
        raise OutputError(f"{target}: would overwrite the input; choose another --save-scores")


def with_scores(options: Options, settings: Settings) -> tuple[Options, Scores | None]:
    """Options with the criterion of the given scores, and these; None where none are given.

    Raises UsageError for what contradicts them, ScoresError.
    """
    asked: Sequence[tuple[str, Any]] = (
        ("--scores", settings.scores),
        ("--save-scores", settings.save_scores),
    )
    flags = [flag for flag, value in asked if value is not None]
    if flags and isinstance(options.objective, Pairwise):
        raise UsageError(f"{flags[0]} has no effect with --objective pairwise; leave it out")
    if len(flags) > 1:
        raise UsageError("--scores and --save-scores: give one, the file has the scores already")
    if settings.scores is None:
        return options, None
    given = settings.scores
    found = given if isinstance(given, Scores) else read_scores(given)
    criterion = parse(found.criterion, extended(CRITERIA, "prunec.criteria"), "criterion")
    if options.criterion not in (Magnitude(), criterion):
        raise UsageError(
            f"--score {render(options.criterion)}: the given scores are those of "
            f"{found.criterion}; leave --score out"
        )
    return replace(options, criterion=criterion), found
