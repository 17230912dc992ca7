"""Plans that were carried out with a recipe before: carried out with it again, where that works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from prunec.compiler.diagnostics import Diagnostic, Severity
from prunec.compiler.errors import PlanError
from prunec.compiler.plan import Plan
from prunec.passes.quantize.bits import is_auto, parse_auto, settled
from prunec.passes.quantize.recipe import Recipe, Rule, parse_recipe

if TYPE_CHECKING:
    from prunec.runtime.compile import Settings
    from prunec.runtime.subject import Subject

COMPONENT, NONE = "quantize", "none"
EXCLUDED, RULES = "quantize_exclude", "quantize_rules"
FLOAT_BYTES = "float_bytes"  # what the plan's model costs before it is quantised


def settled_settings(subject: Subject, settings: Settings, plan: Plan) -> tuple[Settings, Plan]:
    """Settings with the recipe that is to be carried out, and the plan without what is not.

    What the settings say comes first; without, what the plan was carried out with before, if it
    needs no data or there is some; `none` is none.
    """
    asked = settings.quantize
    before = plan.components.get(COMPONENT)
    if asked is None and before is not None:
        recipe = recorded(plan)
        if settings.data is not None or not recipe.needs_data:
            return replace(settings, quantize=recipe, quantize_exclude=()), plan
    if asked in (None, NONE):
        settings = replace(settings, quantize=None)
    # A plan whose budget counts the bytes of its recipe has the bits for it.
    same = str(asked) == before or (_is_auto(asked) and _is_auto(before))
    if before is None or same:
        return settings, plan
    return settings, unquantised(subject, plan)


def _is_auto(text: object) -> bool:
    return isinstance(text, str) and is_auto(text)


def recorded(plan: Plan) -> Recipe:
    """The recipe that a plan was carried out with. Raises PlanError, UsageError."""
    text = plan.components[COMPONENT]
    found = settled(parse_auto(text), plan.bits) if is_auto(text) else parse_recipe(text)
    excluded, rules = plan.options.get(EXCLUDED, []), plan.options.get(RULES, [])
    if not isinstance(excluded, list) or not isinstance(rules, list):
        raise PlanError(f"$.options: {EXCLUDED} and {RULES} must be lists")
    try:
        own = tuple(Rule(**rule) for rule in rules)
    except TypeError as error:
        raise PlanError(f"$.options.{RULES}: {error}") from None
    return replace(found, exclude=tuple(map(str, excluded)), rules=(*found.rules, *own))


def marks(recipe: Recipe) -> dict[str, object]:
    """What a plan's options say of a recipe, beside its text."""
    out: dict[str, object] = {EXCLUDED: list(recipe.exclude)} if recipe.exclude else {}
    return {**out, **({RULES: [asdict(rule) for rule in recipe.rules]} if recipe.rules else {})}


def unquantised(subject: Subject, plan: Plan) -> Plan:
    """The plan without its recipe, with the bytes of the float model."""
    left = {key: value for key, value in plan.components.items() if key != COMPONENT}
    gone = (EXCLUDED, RULES, FLOAT_BYTES)
    options = {key: value for key, value in plan.options.items() if key not in gone}
    costs = dict(plan.costs)
    floats = plan.options.get(FLOAT_BYTES)
    if "bytes" in costs and isinstance(floats, int):
        costs["bytes"] = (costs["bytes"][0], floats)
    elif "bytes" in costs and not plan.groups:
        counted = subject.graph.costs["bytes"]
        costs["bytes"] = (costs["bytes"][0], counted(plan.counts(subject.graph)))
    return replace(plan, components=left, options=options, costs=costs, bits={})


def not_quantised(before: Plan, after: Plan) -> Sequence[Diagnostic]:
    """A word where a plan names a recipe and the model is float."""
    if COMPONENT not in before.components or COMPONENT in after.components:
        return ()
    text = (
        f"the plan was carried out with recipe {before.components[COMPONENT]}, this time without: "
        "the model is float; --data quantises it"
    )
    return (Diagnostic("not-quantised", "", text, Severity.INFO),)
