"""Bits of weights chosen together with channels: what is posed, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prunec.compiler.dial import Dial
from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.plan import Plan
from prunec.compiler.problem import FloatArray, Limit
from prunec.passes.options import Options
from prunec.passes.pairwise.importance import Importance
from prunec.passes.quantize.bits import AutoBits, bit_dials, is_auto, parse_auto, settled
from prunec.passes.quantize.errors import Sensitivity
from prunec.passes.quantize.footprint import footprint, with_footprint
from prunec.passes.quantize.places import Places, places
from prunec.passes.quantize.recipe import HYPEREDGE, Recipe, parse_recipe
from prunec.passes.solvers.auto import Auto
from prunec.runtime.quantize.again import COMPONENT, EXCLUDED
from prunec.runtime.quantize.sensitivity import Asked, sensitivities, with_folded_norms
from prunec.runtime.recovery.recover import Running
from prunec.runtime.subject import Subject

if TYPE_CHECKING:
    from prunec.runtime.compile import Settings

FINE_GAP = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """graph: with bytes of the quantised model. dials: for `decide`. bits: of the weights that have
    no dial. found: what was measured, by weight. measure: "outputs", "layers", or "" for neither.
    asked: what the user said; text, exclude: in the user's words, for the plan.
    """

    graph: Hypergraph
    dials: tuple[Dial, ...]
    bits: Mapping[str, int]
    found: Mapping[str, Sensitivity]
    measure: str
    asked: AutoBits | Recipe
    text: str = ""
    exclude: tuple[str, ...] = ()

    def chosen(self, turned: Mapping[str, int]) -> dict[str, int]:
        """Weight -> bits, of all that are quantised; turned: dial name -> choice."""
        own = {dial.weight: turned[dial.name] for dial in self.dials}
        return {**self.bits, **own}

    def record(self, bits: Mapping[str, int]) -> dict[str, object]:
        """What the plan says of it: the predicted loss is a sum over weights, each alone."""
        total = 0.0
        for name, x in self.found.items():
            costs = x.losses() if self.measure == "outputs" else x.errors()
            total += float(costs[x.bits.index(bits[name])]) if name in bits else 0.0
        return {"measure": self.measure, "predicted": total}


def joint(
    subject: Subject,
    graph: Hypergraph,
    scores: FloatArray | Importance,
    options: Options,
    asked: AutoBits | Recipe,
    settings: Settings,
    progress: Callable[[str], None],
) -> Joint:
    """Pose bits as dials, with what they cost as measured; of a recipe that says them, none.

    graph: the subject's, maybe with latency. `bytes` of the result are those of the quantised
    model, or a few more, see `with_footprint`. Raises UsageError without data, or where no weight
    has a choice; DataError.
    """
    folded = with_folded_norms(subject)
    if isinstance(asked, Recipe):
        where = places(folded.model, folded.facts, asked, edge_names(graph))
        told: dict[str, tuple[int, ...]] = {n: (p.bits,) for n, p in where.weights.items()}
        return _posed(folded, graph, where, told, (), (), asked)
    if isinstance(scores, Importance):
        raise UsageError("--quantize auto and --objective pairwise do not go together: name bits")
    if settings.data is None:
        raise UsageError("--quantize auto measures what bits cost; give it data with --data")
    where, choices = _choices(folded, asked)
    losses = _losses(asked, options)
    found = sensitivities(
        folded,
        Asked(
            {name: (where.weights[name], own) for name, own in choices.items() if len(own) > 1},
            outputs=losses,
        ),
        asked.recipe,
        settings.data,
        Running(settings.provider, settings.threads),
        progress,
    )
    if not found:
        raise UsageError("--quantize auto: no weight has a choice of bits; name them: w8a8")
    measured = {x.weight for x in found}
    # What can't be measured gets the most bits that are asked for.
    choices = {n: own if n in measured else (own[-1],) for n, own in choices.items()}
    dials = bit_dials(graph, found, scores, losses=losses)
    measure = "outputs" if losses else "layers"
    return _posed(folded, graph, where, choices, found, dials, asked, measure)


def bits_posed(
    subject: Subject,
    graph: Hypergraph,
    limits: Sequence[Limit],
    scores: FloatArray | Importance,
    options: Options,
    settings: Settings,
    progress: Callable[[str], None],
) -> Joint | None:
    """What quantising adds to the decision; None where a budget of bytes has nothing to do with it.

    Raises what `joint` raises, and UsageError where bits are left open without a budget of bytes.
    """
    text = settings.quantize
    if text in (None, "none"):
        return None
    assert text is not None
    exclude = settings.quantize_exclude
    asked: AutoBits | Recipe
    if isinstance(text, str) and is_auto(text):
        asked = parse_auto(text)
        asked = replace(asked, recipe=with_excluded(asked.recipe, exclude))
    else:
        asked = with_excluded(parse_recipe(text) if isinstance(text, str) else text, exclude)
    if all(limit.resource != "bytes" for limit in limits):
        if isinstance(asked, AutoBits):
            raise UsageError(
                "--quantize auto chooses under a budget of bytes; give one, for example "
                "--budget bytes=0.1, or name the bits: --quantize w8a8"
            )
        return None
    posed = joint(subject, graph, scores, options, asked, settings, progress)
    return replace(posed, text=str(text), exclude=tuple(exclude))


def refuse_auto(settings: Settings, company: str) -> None:
    """Raise UsageError where bits are left open and nothing chooses them."""
    if isinstance(settings.quantize, str) and is_auto(settings.quantize):
        raise UsageError(
            f"--quantize auto can't be combined with {company}: bits are chosen together with the "
            "channels, at once, under a budget of bytes; name the bits: --quantize w8a8"
        )


def with_excluded(recipe: Recipe, patterns: Sequence[str]) -> Recipe:
    """The recipe with more patterns of what stays float."""
    return replace(recipe, exclude=(*recipe.exclude, *patterns))


def finely(options: Options) -> Options:
    """Options whose solver goes on until bits are settled, where the user names none.

    All of a model's bits are worth less than a thousandth of its channels, the default gap.
    """
    return replace(options, solver=Auto(gap=FINE_GAP)) if options.solver == Auto() else options


def _posed(
    folded: Subject,
    graph: Hypergraph,
    where: Places,
    choices: Mapping[str, tuple[int, ...]],
    found: Sequence[Sensitivity],
    dials: tuple[Dial, ...],
    asked: AutoBits | Recipe,
    measure: str = "",
) -> Joint:
    recipe = asked.recipe if isinstance(asked, AutoBits) else asked
    stored = footprint(folded.model, folded.facts, graph, where, choices, kernels=recipe.kernels)
    return Joint(
        graph=with_footprint(graph, stored, {x.weight: x.bits for x in found}),
        dials=dials,
        bits={name: own[0] for name, own in choices.items() if len(own) == 1},
        found={x.weight: x for x in found},
        measure=measure,
        asked=asked,
    )


def _losses(auto: AutoBits, options: Options) -> bool:
    """Whether bits are worth what the outputs lose, in the unit of the scores."""
    if auto.measure != "auto":
        return auto.measure == "outputs"
    return bool(getattr(options.criterion, "comparable", False)) and options.worth is None


def _choices(folded: Subject, auto: AutoBits) -> tuple[Places, dict[str, tuple[int, ...]]]:
    """Where the recipe quantises, and the numbers of bits that each weight may get."""
    edges = edge_names(folded.graph)
    where = places(folded.model, folded.facts, auto.recipe, edges)
    choices = {}
    for name, place in where.weights.items():
        own: set[int] = set()
        for node in place.nodes:
            own |= set(auto.of([node, name, *edges.get(name, ())]))
        choices[name] = tuple(sorted(own))
    return where, choices


def edge_names(graph: Hypergraph) -> dict[str, tuple[str, ...]]:
    """Stored tensor -> names of the hyperedges through it: what patterns may name."""
    found: dict[str, list[str]] = {}
    for edge in graph.edges:
        for member in edge.members:
            if member.is_weight:
                found.setdefault(member.value, []).append(HYPEREDGE + edge.name)
    return {name: tuple(dict.fromkeys(own)) for name, own in found.items()}


def with_bits(subject: Subject, plan: Plan, posed: Joint, bits: Mapping[str, int]) -> Plan:
    """The plan with the bits of all weights, and with the exact bytes of the quantised model.

    These are counted on what the plan makes of the model, quantised as it will be but with zeros:
    grouping, branches that vanish and single elements of 4 bits are seen as they are.
    """
    asked = posed.asked
    recipe = settled(asked, bits) if isinstance(asked, AutoBits) else asked
    dense = subject.graph.costs["bytes"](subject.graph.dense())
    costs = {**plan.costs, "bytes": (dense, quantised_bytes(subject, plan, recipe))}
    limit = plan.budget.get("bytes")
    assert limit is None or costs["bytes"][1] <= limit, (costs["bytes"], limit)
    options = {**plan.options, **({"bits": posed.record(bits)} if posed.found else {})}
    options |= {EXCLUDED: list(posed.exclude)} if posed.exclude else {}
    components = {**plan.components, **({COMPONENT: posed.text} if posed.text else {})}
    return replace(plan, bits=dict(bits), costs=costs, options=options, components=components)


def quantised_bytes(subject: Subject, plan: Plan, recipe: Recipe) -> int:
    """Bytes of the model that a plan and a recipe make, without calibrating it."""
    slim = with_folded_norms(finished(subject, plan))
    where = places(slim.model, slim.facts, recipe, edge_names(slim.graph))
    bits = {name: place.bits for name, place in where.weights.items()}
    stored = footprint(
        slim.model,
        slim.facts,
        slim.graph,
        where,
        {name: (b,) for name, b in bits.items()},
        kernels=recipe.kernels,
    )
    return stored.nbytes(slim.graph.dense(), bits)


def finished(subject: Subject, plan: Plan) -> Subject:
    """The sliced and grouped model of a plan, analysed."""
    from prunec.runtime.compile import apply_plan
    from prunec.runtime.grouped import mask_blocks, regrouped, slicing_alone
    from prunec.runtime.subject import reopened

    sliced = apply_plan(subject, slicing_alone(subject, plan))
    if plan.groups:
        return reopened(regrouped(subject, plan, mask_blocks(plan, sliced)).model, subject)
    return reopened(sliced, subject)
