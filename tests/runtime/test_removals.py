"""How groups would leave, against models that were changed and run by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from nets import chain, joined, residual

from prunec.compiler.errors import UsageError
from prunec.compiler.removal import Removal
from prunec.compiler.stats import Stats
from prunec.passes.criteria.readers import parts_of, readings_of
from prunec.passes.criteria.reconstruction import Reconstruction
from prunec.passes.options import Options
from prunec.passes.worth.sum import Sum
from prunec.runtime.changed import Changed, place_of
from prunec.runtime.compile import Settings, calibrate
from prunec.runtime.data import DataSpec
from prunec.runtime.output_loss import OutputLoss
from prunec.runtime.recovery.grams import collect_grams
from prunec.runtime.removals import _levels, _weights
from prunec.runtime.session import make_session
from prunec.runtime.subject import Subject, open_model

pytest.importorskip("onnxruntime")


def data_for(subject: Subject, folder: Path, samples: int = 40) -> DataSpec:
    (value,) = subject.model.graph.inputs
    shape = subject.facts.shapes[value.name][1:]
    path = folder / "data.npy"
    np.save(path, np.random.default_rng(0).standard_normal((samples, *shape)).astype(np.float32))
    return DataSpec(str(path))


def evidence(subject: Subject, data: DataSpec, **options: object) -> Stats:
    found = calibrate(subject, Options(Reconstruction(**options)), Settings(data=data))
    assert found is not None
    return found


@pytest.fixture
def small(model: ir.Model, tmp_path: Path) -> tuple[Subject, DataSpec]:
    subject = open_model(model)
    return subject, data_for(subject, tmp_path)


def test_the_loss_is_that_of_the_model_with_the_weight_solved_again(
    small: tuple[Subject, DataSpec],
) -> None:
    subject, data = small
    (removal,) = evidence(subject, data, points=3, probes=1000).removals
    np.testing.assert_array_equal(removal.gone, [1, 2, 3, 4])
    images = np.load(data.path)
    clone = subject.model.clone()
    clone.graph.outputs.extend(v for n in clone.graph for v in n.outputs if v.name == "flat")
    logits, x = (a.astype(float) for a in make_session(clone).run({"image": images}))
    weight = subject.model.graph.initializers["fc.weight"].const_value.numpy().T.astype(float)
    gone = removal.order[:2] - subject.graph.edges[0].first
    # fc has no bias: nothing takes up a shift, so the moments are about zero.
    gram = x.T @ x / len(x)
    gram += 1e-3 * np.trace(gram) / 4 * np.eye(4)
    rest = np.setdiff1d(np.arange(4), gone)
    solved = np.zeros_like(weight)
    solved[rest] = np.linalg.solve(gram[np.ix_(rest, rest)], gram[rest] @ weight)
    judge = OutputLoss(subject.model)
    expected = judge({"logits": logits}, {"logits": x @ solved})
    assert removal.loss[1] == pytest.approx(expected, rel=1e-4)


def test_a_dead_channel_leaves_first_and_costs_nothing(small: tuple[Subject, DataSpec]) -> None:
    subject, data = small
    stats = evidence(subject, data)
    scores = Reconstruction()(subject.model, subject.graph, stats)
    assert scores.argmin() == 1  # its bias keeps it below zero
    assert scores[1] < 1e-6 * scores.sum()
    assert stats.record == {"probed_samples": 40}


def test_without_points_the_errors_are_the_scores(small: tuple[Subject, DataSpec]) -> None:
    subject, data = small
    (removal,) = evidence(subject, data, points=0).removals
    assert not len(removal.gone)
    scores = Reconstruction(points=0)(subject.model, subject.graph, Stats(removals=(removal,)))
    assert scores.sum() >= removal.error[-1] - 1e-9
    np.testing.assert_array_equal(np.argsort(scores), removal.order)


def test_hyperedges_with_a_common_reader_leave_together(tmp_path: Path) -> None:
    subject = open_model(joined())
    data = data_for(subject, tmp_path)
    grams = collect_grams(subject, data)
    parts = list(parts_of(subject.graph, grams.grams))
    ((groups, readings),) = readings_of(subject.graph, parts, 1e-3)
    np.testing.assert_array_equal(groups, np.arange(10))
    assert [r.part.gram.node for r in readings] == [parts[0].gram.node]
    (removal,) = evidence(subject, data).removals
    assert sorted(removal.order) == list(range(10))


def test_depthwise_weights_are_no_readers(tmp_path: Path) -> None:
    subject = open_model(residual())
    grams = collect_grams(subject, data_for(subject, tmp_path)).grams
    readers = {p.gram.weight for p in parts_of(subject.graph, grams)}
    assert "depth.weight" in {g.weight for g in grams.values()}
    assert readers == {"block.a.weight", "block.b.weight", "head.weight"}


@pytest.mark.parametrize("net", [chain, residual, joined])
def test_dense_weights_change_nothing_and_others_do(net, tmp_path: Path) -> None:
    subject = open_model(net())
    data = data_for(subject, tmp_path)
    grams = collect_grams(subject, data).grams
    parts = list(parts_of(subject.graph, grams))
    (value,) = subject.model.graph.inputs
    feeds = {value.name: np.load(data.path)[:1]}
    output = subject.model.graph.outputs[0].name
    (expected,) = make_session(subject.model).run(feeds)
    for groups, readings in readings_of(subject.graph, parts, 1e-3):
        found = (place_of(subject.model, subject.facts, r.part.gram) for r in readings)
        places = [p for p in found if p is not None]
        changed = Changed(subject.model, places, [output])
        changed.start(feeds)
        same = changed.run(_weights(places, readings, groups[:0]))[output]
        np.testing.assert_allclose(same, expected, rtol=1e-4, atol=1e-4)
        other = changed.run(_weights(places, readings, groups))[output]
        assert abs(other - expected).max() > 1e-3


def test_what_nobody_reads_has_the_shares_of_its_weights(small: tuple[Subject, DataSpec]) -> None:
    subject, _ = small
    scores = Reconstruction()(subject.model, subject.graph, Stats())
    assert scores.sum() == pytest.approx(1.0)
    assert (scores > 0).all()


def test_losses_follow_the_error_between_measurements() -> None:
    error = np.array([0.0, 1.0, 3.0, 4.0, 8.0])
    removal = Removal(np.arange(4), error, np.array([2, 4]), np.array([0.6, 1.6]))
    np.testing.assert_allclose(removal.losses(), [0, 0.2, 0.6, 0.8, 1.6])
    falling = Removal(np.arange(4), error, np.array([2, 4]), np.array([0.6, 0.4]))
    np.testing.assert_allclose(falling.losses(), [0, 0.2, 0.6, 0.6, 0.6])
    flat = Removal(np.arange(2), np.zeros(3), np.array([1, 2]), np.array([0.1, 0.2]))
    assert np.isfinite(flat.losses()).all()


def test_levels_are_even_and_end_with_all() -> None:
    np.testing.assert_array_equal(_levels(16, 7), [2, 4, 6, 8, 10, 12, 14, 16])
    np.testing.assert_array_equal(_levels(2, 7), [1, 2])
    assert not len(_levels(16, 0))


def test_scores_are_comparable_and_options_are_checked() -> None:
    assert Options(Reconstruction()).weighing == Sum()
    for bad in ({"ridge": 0.0}, {"points": -1}, {"probes": 0}, {"rows": 0}):
        with pytest.raises(UsageError, match="criterion 'reconstruction'"):
            Reconstruction(**bad)
