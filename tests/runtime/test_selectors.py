from __future__ import annotations

import numpy as np
from nets import chain
from properties.oracle import analyse, random_masks

from prunec.passes.apply import prune
from prunec.runtime.selectors import selectors, with_contents

SUBJECT = analyse(chain())
(MASK,) = random_masks(SUBJECT.graph, 0, 1)


def test_every_output_channel_is_plus_or_minus_one_input() -> None:
    for name, axis in (("conv1.weight", 0), ("conv2.weight", 0), ("fc.weight", 0)):
        array = selectors(SUBJECT.model, SUBJECT.graph, MASK, 0)[name].numpy()
        rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
        assert (np.abs(rows).sum(1) == 1).all()
        assert ((rows != 0).sum(1) == 1).all()


def test_kept_inputs_are_chosen_more_often() -> None:
    graph = SUBJECT.graph
    mask = np.ones(graph.number_of_groups + 1, bool)
    mask[1:8] = False
    picks = [
        np.abs(contents["conv2.weight"].numpy()[:, 0, 0, 0]).sum()
        for contents in (selectors(SUBJECT.model, graph, mask, seed) for seed in range(50))
    ]
    assert 0.8 < np.mean(picks) / 6 < 1


def test_the_same_seed_gives_the_same_contents() -> None:
    a, b = (selectors(SUBJECT.model, SUBJECT.graph, MASK, 3) for _ in range(2))
    for name in a:
        np.testing.assert_array_equal(a[name].numpy(), b[name].numpy())


def test_contents_are_cut_like_the_weights() -> None:
    contents = selectors(SUBJECT.model, SUBJECT.graph, MASK, 0)
    pruned = prune(SUBJECT.model, SUBJECT.facts, SUBJECT.graph, MASK)
    kept = np.flatnonzero(MASK[:8])
    slim = with_contents(pruned, contents, {"conv1.weight": {0: tuple(kept.tolist())}})
    tensor = slim.graph.initializers["conv1.weight"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), contents["conv1.weight"].numpy()[kept])


def test_the_model_itself_keeps_its_weights() -> None:
    contents = selectors(SUBJECT.model, SUBJECT.graph, MASK, 0)
    before = SUBJECT.model.graph.initializers["fc.weight"].const_value
    with_contents(SUBJECT.model, contents, {})
    assert SUBJECT.model.graph.initializers["fc.weight"].const_value is before
