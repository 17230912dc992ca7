"""Which parameters decay, and what an optimizer's row makes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from training_nets import net

from prunec.compiler.errors import UsageError
from prunec.runtime.torch_view import torch_view
from prunec.runtime.training.average import Average
from prunec.runtime.training.optimizers import MAKERS, Group, decays, make_optimizer
from prunec.runtime.training.settings import OPTIMIZERS, AdamW, Sgd, TrainSettings


def test_every_optimizer_has_a_maker() -> None:
    assert set(MAKERS) == set(OPTIMIZERS)


def test_norms_and_biases_do_not_decay() -> None:
    named = dict(torch_view(net()).named_parameters())
    assert {name for name, p in named.items() if decays(p)} == {"w", "fc"}


@pytest.mark.parametrize("how", [AdamW(weight_decay=0.3), Sgd(weight_decay=0.3)])
def test_groups_have_their_own_decay_and_rate(how: AdamW | Sgd) -> None:
    gates = nn.Parameter(torch.zeros(5))
    settings = TrainSettings(optimizer=how, learning_rate=0.5)
    extra = [Group((gates,), rate=7.0, scheduled=False, name="gates")]
    made = make_optimizer(torch_view(net()).parameters(), settings, extra)
    rows = {row["name"]: row for row in made.param_groups}
    assert rows["weights"]["weight_decay"] == 0.3
    assert rows["norms and biases"]["weight_decay"] == 0.0
    assert rows["weights"]["peak"] == rows["weights"]["lr"] == 0.5
    assert (rows["gates"]["lr"], rows["gates"]["scheduled"]) == (7.0, False)
    assert rows["gates"]["params"] == [gates]


def test_each_optimizer_has_a_default_rate() -> None:
    assert TrainSettings(optimizer=Sgd()).rate == Sgd.learning_rate
    assert TrainSettings(learning_rate=0.5).rate == 0.5


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"schedule": "step"}, {"ema": 1.0}, {"learning_rate": -1.0}, {"steps": 0}],
)
def test_settings_that_no_run_can_have_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        TrainSettings(**wrong)  # type: ignore[arg-type]


def test_the_average_follows_its_formula() -> None:
    weights = {"w": torch.tensor([0.0]), "n": torch.tensor(1)}
    average = Average(weights, 0.5)
    expected = 0.0
    for step in range(1, 30):
        weights = {"w": torch.tensor([float(step)]), "n": torch.tensor(step)}
        average.update(weights)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert float(average.state["w"]) == pytest.approx(expected, rel=1e-5)
    assert int(average.state["n"]) == 29
