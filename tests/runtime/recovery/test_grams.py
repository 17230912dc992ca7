from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doubled import HALF, Net, samples

from prunec.runtime.recovery.grams import collect_grams
from prunec.runtime.subject import open_model

pytest.importorskip("onnxruntime")


def test_moments_are_those_of_all_windows(tmp_path: Path) -> None:
    net = Net()
    a = net.twice("x", "a", 3, (1, 1))
    net.reader("b.w", 5, 2 * HALF, 1, 1)
    net.add("Conv", [a, "b.w"], "y")
    model = net.model("y", ("n", 5, 6, 6))
    data = samples(tmp_path, net, 30)
    stats = collect_grams(open_model(model), data)
    assert set(stats.grams) == {"a.y", "y"}
    assert stats.samples == 30
    gram = stats.grams["a.y"]
    x = np.load(data.path)["x"].astype(np.float64).transpose(0, 2, 3, 1).reshape(-1, 3)
    np.testing.assert_allclose(gram.moments[0], x.T @ x, rtol=1e-6)
    np.testing.assert_allclose(gram.sums[0], x.sum(0), rtol=1e-5, atol=1e-4)
    assert (gram.source, gram.target, gram.rows) == (("x", 1), ("a.y", 1), 30 * 36)
    assert gram.intercept
    assert not stats.grams["y"].intercept
    centred = x - x.mean(0)
    np.testing.assert_allclose(gram.covariance()[0], centred.T @ centred / len(x), rtol=1e-5)


def test_weights_with_more_columns_are_left_out(tmp_path: Path) -> None:
    net = Net()
    a = net.twice("x", "a", 3)
    net.reader("b.w", 5, 2 * HALF, 3, 3)
    net.add("Conv", [a, "b.w"], "y")
    model = net.model("y", ("n", 5, 4, 4))
    stats = collect_grams(open_model(model), samples(tmp_path, net, 20), columns=30)
    assert set(stats.grams) == {"a.y"}
