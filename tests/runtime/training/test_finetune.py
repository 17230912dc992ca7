"""Fine-tuning: what it is told by teacher and labels, what of the model changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from training_nets import CPU, arrays, images, net, save

import prunec
from prunec.compiler.errors import DataError, ModelError, UsageError
from prunec.frontends.onnx import load, to_proto
from prunec.runtime.data import DataSpec
from prunec.runtime.torch_view import torch_view
from prunec.runtime.training.finetune import FineTuned, Work, finetune
from prunec.runtime.training.history import Epoch
from prunec.runtime.training.settings import Recipe, Sgd, TrainSettings

FAST = replace(CPU, epochs=4, learning_rate=0.02)


def tuned(
    folder: Path, recipe: Recipe | None = None, how: TrainSettings = FAST, **work: Any
) -> FineTuned:
    work.setdefault("model", to_proto(load(net(4, seed=1))))
    work.setdefault("teacher", net(8))
    if not isinstance(work.get("data"), DataSpec):
        labels = work.pop("labels", True)
        work["data"] = DataSpec(str(arrays(folder / "d.npz", 128, labels=labels)))
    return finetune(Work(**work), recipe or Recipe(validation=0.2), how)


def losses(found: FineTuned) -> list[float]:
    return [e.score.loss for e in found.history.epochs if e.score is not None]


def test_only_weights_change(tmp_path: Path) -> None:
    source = to_proto(load(net(4, seed=1)))
    found = to_proto(tuned(tmp_path, model=source).model)
    assert [n.SerializeToString() for n in found.graph.node] == [
        n.SerializeToString() for n in source.graph.node
    ]
    assert found.metadata_props == source.metadata_props
    before = {t.name: onnx.numpy_helper.to_array(t) for t in source.graph.initializer}
    after = {t.name: onnx.numpy_helper.to_array(t) for t in found.graph.initializer}
    assert {n: (a.shape, a.dtype) for n, a in before.items()} == {
        n: (a.shape, a.dtype) for n, a in after.items()
    }
    assert all((before[name] != after[name]).any() for name in before)


@pytest.mark.parametrize("labels", [True, False])
def test_the_student_comes_nearer_to_its_teacher(tmp_path: Path, labels: bool) -> None:
    found = tuned(tmp_path, labels=labels)
    assert found.labelled == labels
    assert min(losses(found)) < 0.8 * losses(found)[0]
    score = found.history.score
    assert score is not None
    assert (score.top1 is not None) == labels


def test_labels_can_be_left_aside(tmp_path: Path) -> None:
    found = tuned(tmp_path, Recipe(labels="none", validation=0.2))
    assert not found.labelled
    assert set(found.history.epochs[1].terms) == {"distillation"}


def test_labels_alone_are_enough(tmp_path: Path) -> None:
    found = tuned(tmp_path, teacher=None)
    assert set(found.history.epochs[1].terms) == {"labels"}
    assert found.history.score is not None
    assert found.history.score.top1 is not None
    assert found.history.score.top1 > 0.5
    with pytest.raises(DataError, match="without --teacher training needs labels"):
        tuned(tmp_path, teacher=None, labels=False)


def test_features_need_the_plan_where_channels_left(tmp_path: Path) -> None:
    dense = save(net(8), tmp_path / "dense.onnx")
    result = prunec.prune(dense, "flops=0.6", align=1, verify=False)
    recipe = Recipe(features=("^r$",), validation=0.2)
    found = tuned(tmp_path, recipe, model=result.model, teacher=dense, plan=result.plan)
    terms = [e.terms["features"] for e in found.history.epochs[1:]]
    assert terms[-1] < terms[0]
    with pytest.raises(UsageError, match="give --plan"):
        tuned(tmp_path, recipe, model=result.model, teacher=dense)
    with pytest.raises(UsageError, match="no value of both graphs matches"):
        tuned(tmp_path, Recipe(features=("conv9",)), model=result.model, teacher=dense)


def test_probabilities_are_compared_by_the_logits_in_front_of_them(tmp_path: Path) -> None:
    plain = tuned(tmp_path, Recipe(validation=0.2, labels="none"))
    model = to_proto(load(net(4, softmax=True, seed=1)))
    soft = tuned(tmp_path, Recipe(validation=0.2, labels="none"), model=model,
                 teacher=net(8, softmax=True))  # fmt: skip
    assert losses(soft) == pytest.approx(losses(plain), rel=1e-4)


def test_a_batch_that_is_only_declared_is_no_limit(tmp_path: Path) -> None:
    found = tuned(tmp_path, model=net(4, batch=1, seed=1), teacher=net(8, batch=1))
    assert found.notes == ()
    assert losses(found) == pytest.approx(losses(tuned(tmp_path)), rel=1e-5)


def test_a_batch_that_the_graph_needs_is_kept(tmp_path: Path) -> None:
    def fixed(channels: int, seed: int) -> onnx.ModelProto:
        model = net(channels, batch=1, seed=seed)
        flat = next(n for n in model.graph.node if n.op_type == "Flatten")
        flat.op_type = "Reshape"
        flat.input.append("shape")
        shape = onnx.numpy_helper.from_array(np.array([1, channels]), "shape")
        model.graph.initializer.append(shape)
        return model

    found = tuned(tmp_path, how=replace(FAST, epochs=1), model=fixed(4, 1), teacher=fixed(8, 0))
    (note,) = found.notes
    assert note.startswith("the graph takes batches of 1 only: 16 of them make a step")
    assert found.history.steps == 102 // 16
    assert min(losses(found)) < losses(found)[0]


def test_answers_are_kept_only_where_the_inputs_stay(tmp_path: Path) -> None:
    plain = tuned(tmp_path, Recipe(validation=0.2))
    uncached = tuned(tmp_path, Recipe(validation=0.2, cache=0))
    assert losses(plain) == pytest.approx(losses(uncached), rel=1e-6)
    moved = tuned(tmp_path, Recipe(validation=0.2, augment="flip,crop{padding=1}"))
    assert losses(moved) != losses(plain)


def test_folded_norms_train_with_the_default_rates(tmp_path: Path) -> None:
    model = net(4, norm=False, seed=1)
    for how in (replace(CPU, epochs=3), replace(CPU, epochs=3, optimizer=Sgd())):
        found = tuned(tmp_path, how=how, model=model, teacher=net(8, norm=False))
        assert losses(found)[-1] < losses(found)[0]


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (net(8, classes=5), r"output 'y' is \(2, 4\), the teacher's 'y' is \(2, 5\)"),
        (net(8, name="picture"), "has an input '(x|picture)' that the"),
    ],
)
def test_a_teacher_of_another_kind_is_refused(
    tmp_path: Path, teacher: onnx.ModelProto, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        tuned(tmp_path, teacher=teacher)


def test_labels_that_are_no_class_are_refused(tmp_path: Path) -> None:
    x, y = images(64)
    np.savez(tmp_path / "wrong.npz", x=x, labels=y + 1)
    with pytest.raises(DataError, match=r"labels lie in \[1, 4\], the model has 4 classes"):
        tuned(tmp_path, data=DataSpec(str(tmp_path / "wrong.npz")))


def test_augmentations_need_images(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Gemm", ["x", "w"], ["y"])
    weight = onnx.numpy_helper.from_array(np.ones((6, 4), np.float32), "w")
    of = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node], "g", [of("x", 1, ("N", 6))], [of("y", 1, ("N", 4))], [weight]
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    np.savez(tmp_path / "rows.npz", x=np.ones((32, 6), np.float32), labels=np.zeros(32, int))
    with pytest.raises(DataError, match="augmentations are for one input of images"):
        tuned(tmp_path, Recipe(augment="flip"), model=model, teacher=None,
              data=DataSpec(str(tmp_path / "rows.npz")))  # fmt: skip


def test_the_written_model_is_the_one_that_was_judged(tmp_path: Path) -> None:
    data = arrays(tmp_path / "d.npz", 128)
    other = arrays(tmp_path / "e.npz", 64, seed=5)
    model = save(net(4, seed=1), tmp_path / "net.onnx")
    told: list[Epoch] = []
    found = prunec.finetune(
        model, str(data), net(8), Recipe(), FAST, eval_data=str(other),
        output=tmp_path / "out.onnx",
    )  # fmt: skip
    told = found.history.epochs
    score = found.history.score
    assert score is not None
    x, y = images(64, seed=5)
    with torch.no_grad():
        view = torch_view(tmp_path / "out.onnx").eval()
        logits = view({"x": torch.from_numpy(x)})["y"].numpy()
    assert (logits.argmax(1) == y).mean() == score.top1
    assert (score.samples, len(told)) == (64, 5)
    assert (tmp_path / "out.history.json").exists()
