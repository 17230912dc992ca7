from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from prunec.compiler.errors import DataError, UsageError
from prunec.runtime.accuracy import Accuracy, accuracy, report_data
from prunec.runtime.data import DataSpec, load_data
from prunec.runtime.evaluate import evaluate
from prunec.runtime.inputs import model_inputs
from prunec.runtime.metrics import METRICS, check_metrics, make_metric, metric_name

pytest.importorskip("onnxruntime")


def first_logit(outputs: dict[str, np.ndarray], labels: np.ndarray | None) -> tuple[float, int]:
    logits = outputs["logits"]
    return float(logits[:, 0].sum()), len(logits)


class Largest:
    """Of all batches: no mean of theirs."""

    def __init__(self) -> None:
        self.seen = -np.inf

    def update(self, outputs: dict[str, np.ndarray], labels: np.ndarray | None) -> None:
        self.seen = max(self.seen, float(outputs["logits"].max()))

    def result(self) -> float:
        return self.seen


@pytest.fixture
def unlabelled(tmp_path: Path, images: np.ndarray) -> DataSpec:
    np.save(tmp_path / "a.npy", images)
    return DataSpec(str(tmp_path / "a.npy"), batch=3)


def logits(model: ir.Model, images: np.ndarray) -> np.ndarray:
    from prunec.runtime.session import make_session

    return make_session(model).run({"image": images})[0]


def test_a_function_without_labels_is_averaged_over_uneven_batches(
    model: ir.Model, images: np.ndarray, unlabelled: DataSpec
) -> None:
    found = evaluate(model, unlabelled, [first_logit]).accuracy
    want = logits(model, images)[:, 0].mean()
    assert found.samples == 10
    assert found.first == ("first_logit", pytest.approx(want, rel=1e-5))


def test_a_class_says_what_is_no_mean_and_starts_anew_for_every_model(
    model: ir.Model, images: np.ndarray, unlabelled: DataSpec
) -> None:
    want = logits(model, images).max()
    values = [evaluate(model, unlabelled, [Largest]).accuracy.first[1] for _ in range(2)]
    assert values == [pytest.approx(want)] * 2


def test_several_metrics_come_in_the_order_asked_for(model: ir.Model, archive: Path) -> None:
    found = evaluate(model, DataSpec(str(archive)), ["top5", first_logit, "top1"]).accuracy
    assert [name for name, _ in found.values] == ["top5", "first_logit", "top1"]
    assert found.top1 is not None
    assert found.to_dict().keys() == {"top5", "first_logit", "top1", "samples"}
    assert Accuracy.from_dict(found.to_dict()) == found


def test_a_metric_is_found_in_a_file(model: ir.Model, tmp_path: Path, archive: Path) -> None:
    code = "def share(outputs, labels):\n    return (labels == 0).sum(), len(labels)\n"
    (tmp_path / "judge.py").write_text(code)
    name = f"{tmp_path / 'judge.py'}:share"
    assert evaluate(model, DataSpec(str(archive)), [name]).accuracy.first == (name, 0.2)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda outputs, labels: 1 / 0, "failed with ZeroDivisionError: division by zero"),
        (lambda outputs, labels: 0.5, r"must return \(sum, count\) of a batch, not 0.5"),
        (lambda outputs, labels: ("a", 1), "must give numbers, not 'a'"),
        (lambda outputs, labels: (0.0, 0), "counted nothing"),
    ],
)
def test_what_goes_wrong_in_a_users_metric_is_one_line(
    model: ir.Model, unlabelled: DataSpec, function: object, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        evaluate(model, unlabelled, [function])
    assert "\n" not in str(caught.value)


def test_unknown_and_repeated_metrics_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"unknown metric 'top3'; did you mean 'top\d'"):
        check_metrics(["top1", "top3"])
    with pytest.raises(UsageError, match="'top1' is given twice"):
        check_metrics(["top1", "top1"])


@pytest.mark.parametrize("name", sorted(METRICS))
def test_each_row_of_the_table_counts_a_right_answer(name: str) -> None:
    metric = make_metric(name)
    metric.update({"out": np.eye(6, dtype=np.float32)}, np.arange(6))
    assert (metric_name(name), metric.result()) == (name, 1.0)


def test_top5_says_nothing_of_five_classes() -> None:
    metric = make_metric("top5")
    metric.update({"out": np.eye(5, dtype=np.float32)}, np.arange(5))
    assert metric.result() is None


def test_reports_measure_on_evaluation_data_before_all_else(
    model: ir.Model, archive: Path, unlabelled: DataSpec
) -> None:
    inputs, labelled = model_inputs(model), DataSpec(str(archive))
    found = report_data(unlabelled, labelled, (), inputs)
    assert found is not None
    assert found.spec == labelled
    assert report_data(unlabelled, None, (), inputs) is None
    assert report_data(unlabelled, None, (first_logit,), inputs) is not None
    assert report_data(labelled, None, (), inputs) is not None
    with pytest.raises(UsageError, match="--metric needs data"):
        report_data(None, None, (first_logit,), inputs)
    judged = report_data(labelled, unlabelled, (), inputs)
    assert judged is not None
    with pytest.raises(DataError, match="needs labels"):
        accuracy(model, judged)


def test_a_batch_size_changes_nothing(model: ir.Model, archive: Path) -> None:
    values = {evaluate(model, DataSpec(str(archive)), batch=n).accuracy for n in (1, 4, 10)}
    assert len(values) == 1
    assert load_data(DataSpec(str(archive)), model_inputs(model)).batch > 1
