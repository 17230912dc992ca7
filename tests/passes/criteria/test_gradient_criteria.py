from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prunec.compiler.errors import UsageError
from prunec.compiler.spec import parse
from prunec.compiler.stats import Gradients, Stats
from prunec.passes.criteria import CRITERIA
from prunec.passes.criteria.fisher import Fisher
from prunec.passes.criteria.taylor import Taylor
from prunec.runtime.subject import open_model
from prunec.tools.demo import DIGITS


def test_scores_are_what_the_moments_say() -> None:
    subject = open_model(DIGITS)
    size = subject.graph.number_of_groups
    mean, size_, square = np.linspace(-1, 1, size), np.linspace(1, 2, size), np.linspace(2, 4, size)
    stats = Stats(gradients=Gradients(mean, size_, square), samples=3)
    for criterion, want in (
        (Fisher(), square / 2),
        (Taylor(), size_),
        (Taylor(statistic="mean"), abs(mean)),
    ):
        found = criterion(subject.model, subject.graph, stats)
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("criterion", [Fisher(), Taylor()])
@pytest.mark.parametrize("stats", [None, Stats()])
def test_without_evidence_they_ask_for_data(criterion: Any, stats: Stats | None) -> None:
    subject = open_model(DIGITS)
    with pytest.raises(UsageError, match="--data"):
        criterion(subject.model, subject.graph, stats)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fisher{samples=0}", "samples must be at least 1"),
        ("fisher{batch=0}", "batch must be at least 1"),
        ("taylor{seed=-1}", "seed must be at least 0"),
        ("fisher{labels=mine}", "unknown labels 'mine'"),
        ("taylor{targets=draw}", "unknown targets 'draw'"),
        ("taylor{statistic=median}", "unknown statistic 'median'"),
    ],
)
def test_options_that_mean_nothing_are_refused(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(spec, CRITERIA, "criterion")
