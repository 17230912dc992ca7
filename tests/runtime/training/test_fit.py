"""The loop: it learns, it is repeatable, it goes on after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_nets import CPU, by_labels, indexed, net

from prunec.compiler.errors import DataError, TrainingError, UsageError
from prunec.runtime.torch_view import TorchView, torch_view
from prunec.runtime.training.batch import Batch
from prunec.runtime.training.evaluate import judge_of
from prunec.runtime.training.fit import Extras, HeldOut, StepInfo, fit
from prunec.runtime.training.history import History
from prunec.runtime.training.optimizers import Group
from prunec.runtime.training.samples import Samples
from prunec.runtime.training.settings import Sgd, TrainSettings


class Killed(Exception):
    """What a test stops a run with."""


def held_out(view: TorchView) -> HeldOut:
    data = indexed(32, seed=9)
    return data.part(np.arange(32), shuffle=False), judge_of(by_labels(), view)


def trained(
    settings: TrainSettings = CPU, data: Samples | None = None, **more: Any
) -> tuple[TorchView, History]:
    view = torch_view(net())
    more.setdefault("held_out", held_out(view))
    return view, fit(view, data or indexed(), by_labels(), settings, **more)


def same(first: TorchView, second: TorchView) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def noisy(batch: Batch, generator: torch.Generator) -> Batch:
    x = batch.feeds["x"]
    return replace(batch, feeds={"x": x + 0.1 * torch.randn(x.shape, generator=generator)})


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_training_lowers_the_loss(norm: bool, optimizer: str) -> None:
    view = torch_view(net(norm=norm))
    how = replace(CPU, epochs=8, learning_rate=0.02)
    how = replace(how, optimizer=Sgd()) if optimizer == "sgd" else how
    history = fit(view, indexed(192), by_labels(), how, held_out=held_out(view))
    scores = [epoch.score for epoch in history.epochs]
    assert scores[0] is not None
    assert history.score is not None
    assert history.score.loss < 0.8 * scores[0].loss
    assert history.score.top1 is not None
    assert history.score.top1 > 0.5
    assert not view.training


def test_the_default_rates_do_not_diverge_without_norms() -> None:
    for how in (CPU, replace(CPU, optimizer=Sgd())):
        view = torch_view(net(norm=False))
        losses = fit(view, indexed(), by_labels(), replace(how, epochs=5)).curve
        assert losses[-1][1] < losses[0][1]


def test_the_same_settings_give_the_same_weights() -> None:
    assert same(trained()[0], trained()[0])


def test_augmentations_are_seeded_per_batch() -> None:
    runs = [trained(extras=Extras(augment=noisy))[0] for _ in range(2)]
    assert same(*runs)
    assert not same(runs[0], trained()[0])
    assert not same(runs[0], trained(replace(CPU, seed=1), extras=Extras(augment=noisy))[0])


def test_accumulated_batches_are_one_larger_batch() -> None:
    # Norms would see other batches; their statistics are frozen.
    one = replace(CPU, batch=32, freeze_norms=True, epochs=1)
    whole = trained(one, indexed(96, 32), held_out=None)[0]
    parts = trained(replace(one, accumulate=2), indexed(96, 16), held_out=None)[0]
    for name, tensor in whole.state_dict().items():
        assert torch.allclose(tensor, parts.state_dict()[name], atol=1e-5), name


def test_statistics_of_norms_move_unless_they_are_frozen() -> None:
    start = torch_view(net()).state_dict()["m"]
    assert not torch.equal(trained(held_out=None)[0].state_dict()["m"], start)
    frozen = trained(replace(CPU, freeze_norms=True), held_out=None)[0].state_dict()
    assert torch.equal(frozen["m"], start)
    assert not torch.equal(frozen["g"], torch.ones(8))


def test_clipping_bounds_each_step() -> None:
    how = replace(CPU, optimizer=Sgd(momentum=0.0, weight_decay=0.0), learning_rate=1.0)
    view = torch_view(net())
    before = {n: p.detach().clone() for n, p in view.named_parameters()}
    fit(view, indexed(), by_labels(), replace(how, steps=1, clip=1e-3, warmup=0.0))
    moved = sum(float((p.detach() - before[n]).square().sum()) for n, p in view.named_parameters())
    assert 0 < moved**0.5 <= 1e-3 * 1.001


@pytest.mark.parametrize("kill_at", [1, 7, 13])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path, kill_at: int) -> None:
    how = replace(CPU, epochs=3, checkpoint=tmp_path, checkpoint_steps=2, ema=0.9)
    more = {"extras": Extras(augment=noisy)}

    def kill(info: StepInfo) -> None:
        if info.step == kill_at:
            raise Killed

    with pytest.raises(Killed):
        trained(how, on_step=kill, **more)
    resumed, history = trained(how, **more)
    whole, expected = trained(replace(how, checkpoint=None), **more)
    assert history.resumed == kill_at - 1
    assert same(resumed, whole)
    assert [e.score for e in history.epochs] == [e.score for e in expected.epochs]
    assert [e.samples for e in history.epochs] == [e.samples for e in expected.epochs]


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    how = replace(CPU, checkpoint=tmp_path)
    first = trained(how)[0]
    steps: list[int] = []
    again, history = trained(how, on_step=lambda info: steps.append(info.step))
    assert same(first, again)
    assert not steps
    assert history.resumed == history.steps == 12


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    trained(replace(CPU, checkpoint=tmp_path))
    with pytest.raises(UsageError, match="belongs to a run with other options"):
        trained(replace(CPU, checkpoint=tmp_path, seed=5))
    (tmp_path / "training.pt").write_bytes(b"half of a file")
    with pytest.raises(UsageError, match="not a readable checkpoint"):
        trained(replace(CPU, checkpoint=tmp_path))


def test_nothing_but_whole_checkpoints_lies_in_the_folder(tmp_path: Path) -> None:
    trained(replace(CPU, checkpoint=tmp_path, checkpoint_steps=1))
    assert [path.name for path in tmp_path.iterdir()] == ["training.pt"]


def test_the_best_epoch_is_kept() -> None:
    # Too high a rate on a trained model: what came in is the best.
    view, _ = trained(replace(CPU, epochs=8, learning_rate=0.02))
    before = {n: t.clone() for n, t in view.state_dict().items()}
    wild = replace(CPU, learning_rate=30.0, warmup=0.0, clip=0.0)
    history = fit(view, indexed(), by_labels(), wild, held_out=held_out(view))
    assert history.best == 0
    assert all(torch.equal(t, before[n]) for n, t in view.state_dict().items())


def test_a_loss_that_is_no_number_ends_the_run_with_the_best_weights() -> None:
    def broken(view: TorchView, batch: Batch) -> dict[str, Tensor]:
        terms = dict(by_labels()(view, batch))
        broken_from = 8
        calls.append(1)
        return {k: v * (float("nan") if len(calls) > broken_from else 1) for k, v in terms.items()}

    calls: list[int] = []
    view = torch_view(net())
    how = replace(CPU, epochs=3, learning_rate=0.02)
    with pytest.raises(TrainingError, match="not a number in epoch 2") as caught:
        fit(view, indexed(), broken, how, held_out=held_out(view))
    assert caught.value.best == 1
    assert isinstance(caught.value.history, History)
    assert all(bool(torch.isfinite(t).all()) for t in view.state_dict().values())


def test_extra_parameters_are_trained_with_their_own_rate() -> None:
    gate = nn.Parameter(torch.full((4,), 2.0))

    def gated(view: TorchView, batch: Batch) -> dict[str, Tensor]:
        return {**by_labels()(view, batch), "gates": gate.square().sum()}

    seen: list[float] = []

    def note(info: StepInfo) -> None:
        (row,) = [r for r in info.optimizer.param_groups if r["name"] == "gates"]
        seen.append(row["lr"])
        row["lr"] = 0.05

    groups = [Group((gate,), rate=0.1, scheduled=False, name="gates")]
    fit(torch_view(net()), indexed(), gated, CPU, extra_parameters=groups, on_step=note)
    assert seen == [0.1] + [0.05] * 11
    assert float(gate.detach().max()) < 2.0


def test_a_callback_ends_the_run() -> None:
    history = trained(on_step=lambda info: info.step == 8)[1]
    assert history.steps == 8
    assert [epoch.number for epoch in history.epochs] == [0, 1, 2]


def test_steps_take_the_place_of_epochs() -> None:
    assert trained(replace(CPU, steps=20))[1].steps == 20
    assert [e.step for e in trained(replace(CPU, steps=20))[1].epochs] == [0, 6, 12, 18, 20]


def test_bfloat16_trains_weights_that_stay_in_float32() -> None:
    view, history = trained(replace(CPU, precision="bfloat16"))
    assert {t.dtype for t in view.state_dict().values()} == {torch.float32}
    assert history.score is not None
    plain = trained()[1]
    assert plain.score is not None
    assert history.score.loss == pytest.approx(plain.score.loss, rel=0.05)


def test_float16_needs_a_gpu() -> None:
    with pytest.raises(UsageError, match="float16 needs a GPU"):
        trained(replace(CPU, precision="float16"))


def test_data_without_a_batch_is_refused() -> None:
    empty = indexed(16).part(np.arange(0))
    with pytest.raises(DataError, match="holds no batch"):
        trained(data=empty)
