"""The published instances: proven optima, and bars for the scalable solver."""

from __future__ import annotations

import numpy as np
import pytest
from qcqp_instances import REFERENCE, problem_of, read_npz, read_tiny

from prunec.compiler.problem import Status
from prunec.passes.pairwise.bound import upper_bound
from prunec.passes.pairwise.greedy import Greedy
from prunec.passes.pairwise.importance import matrices
from prunec.passes.pairwise.lagrangian import Lagrangian
from prunec.passes.pairwise.milp import Milp
from prunec.runtime.subject import open_model

FOLDER = REFERENCE / "qcqp"
MODEL = REFERENCE.parent / "models" / "resnet20-cifar10.onnx"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} does not exist")
TINY = [("tiny_golden", 0), *(("tiny_golden_set", k) for k in range(8))]


def tiny(name: str, k: int):
    return read_tiny(FOLDER / f"{name}.json")[k]


@pytest.mark.parametrize(("name", "k"), TINY)
@pytest.mark.parametrize("coupled", [False, True])
def test_the_milp_proves_the_optima_of_the_tiny_instances(name: str, k: int, coupled: bool) -> None:
    instance, decoupled_best, coupled_best = tiny(name, k)
    best = coupled_best if coupled else decoupled_best
    if best is None:
        pytest.skip("the reference has no coupled optimum for this one")
    problem = problem_of(instance, coupled=coupled, least=1)
    quick = Lagrangian()(problem, None)
    found = Milp(time_limit=120)(problem, quick.mask)
    assert found.objective == pytest.approx(best, abs=1e-5)
    assert found.status is Status.OPTIMAL
    assert found.bound == pytest.approx(best, abs=1e-4)
    assert problem.faults(found.mask) == []
    assert quick.objective <= best + 1e-9 <= quick.bound + 2e-9


def test_the_first_tiny_instance_passes_channels_on_that_nobody_writes() -> None:
    instance, _, _ = tiny("tiny_golden", 0)
    problem = problem_of(instance, coupled=False, least=1)
    found = Milp(time_limit=120)(problem, None)
    counts = dict(zip(problem.names, problem.counts(found.mask), strict=True))
    assert (counts["u3"], counts["v3"]) == (2, 4)
    assert problem.costs["flops"](problem.counts(found.mask)) == 16704


@pytest.mark.parametrize(("name", "k"), TINY)
def test_the_greedy_is_no_worse_than_the_published_one(name: str, k: int) -> None:
    instance, best, _ = tiny(name, k)
    problem = problem_of(instance, coupled=False, least=1)
    found = Greedy(bound=False)(problem, None)
    assert problem.faults(found.mask) == []
    assert instance.published - 1e-9 <= found.objective <= best + 1e-5


@pytest.mark.parametrize(
    "name", ["resnet20_flops_2D_0.46", "resnet20_mem_2D_0.46", "resnet32_flops_2D_0.46"]
)
def test_the_greedy_does_not_lose_to_the_published_one_on_a_network(name: str) -> None:
    instance = read_npz(FOLDER / f"{name}.npz")
    problem = problem_of(instance, coupled=False, least=4)
    found = Greedy(bound=False)(problem, None)
    assert problem.faults(found.mask) == []
    # The published objective is a sum in float32.
    assert found.objective >= instance.published * (1 - 1e-6)


def test_several_additions_at_a_time_cost_little() -> None:
    instance = read_npz(FOLDER / "resnet20_flops_2D_0.46.npz")
    problem = problem_of(instance, coupled=False, least=4)
    found = Greedy(step=20, bound=False)(problem, None)
    assert problem.faults(found.mask) == []
    assert found.objective >= 0.99 * instance.published


@pytest.mark.parametrize(
    ("name", "coupled", "least", "bar", "gap"),
    [
        ("resnet20_flops_2D_0.46", False, 4, 421.99, 0.02),
        ("resnet20_flops_2D_0.46", False, 1, 425.1, 0.02),
        ("resnet20_flops_2D_0.46", True, 4, 414.27, 0.012),
        ("resnet32_flops_2D_0.46", False, 1, 715.41, 0.02),
        ("resnet20_mem_2D_0.46", False, 4, 372.371, 0.02),
    ],
)
def test_the_lagrangian_beats_the_published_greedy(
    name: str, coupled: bool, least: int, bar: float, gap: float
) -> None:
    instance = read_npz(FOLDER / f"{name}.npz")
    problem = problem_of(instance, coupled=coupled, least=least)
    found = Lagrangian(bound=False)(problem, None)
    assert problem.faults(found.mask) == []
    assert problem.costs["flops"](problem.counts(found.mask)) <= instance.limit
    assert found.objective >= bar
    bound = upper_bound(problem, found.objective).value
    assert 0 <= (bound - found.objective) / bound <= gap


def test_the_published_mask_is_valid_and_worth_what_it_says() -> None:
    path = FOLDER / "resnet20_flops_2D_0.46.npz"
    instance = read_npz(path)
    problem = problem_of(instance, coupled=False, least=3)
    data = np.load(path)
    mask = np.concatenate([data[name.split("+")[0]] > 0.5 for name in problem.names])
    assert problem.faults(mask) == []
    assert problem.objective(mask) == pytest.approx(instance.published, rel=1e-6)


@pytest.mark.skipif(not MODEL.is_file(), reason=f"{MODEL} does not exist")
def test_the_instance_follows_from_the_network() -> None:
    """Other weights of the same structure: shapes, costs and the limit agree."""
    instance = read_npz(FOLDER / "resnet20_flops_2D_0.46.npz")
    subject = open_model(MODEL)
    found = [m for _, m, _, _ in matrices(subject.model, subject.graph)]
    convolutions = [m for m in found if m.shape[1] > 1]  # the rest: rows or columns never leave
    inner = [a.shape for a in instance.arrays[1:]]
    assert sorted(m.shape for m in convolutions) == sorted(inner)
    flops = subject.graph.costs["flops"]
    everything = flops(subject.graph.dense())
    of_convolutions = sum(c * a.size for c, a in zip(instance.costs, instance.arrays, strict=True))
    classifier = everything - of_convolutions
    assert classifier == 640
    assert instance.limit == pytest.approx(0.46 * everything - classifier)
    # Both convolutions of a block have the same two sizes: they are one term.
    scales = {term.scale for term in flops.terms}
    assert all({c, 2 * c} & scales for c in instance.costs)
    for array in instance.arrays:
        assert np.linalg.norm(array) == pytest.approx(1, abs=1e-5)
