"""The package as the repository holds it: module -> file."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = ("compiler", "passes", "frontends", "runtime", "tools")
# Trains the demo's network: a script that nothing imports; needs torch and scikit-learn.
SCRIPTS = frozenset({"prunec.tools.demo.train_digits"})
# What computes with torch and is imported inside of functions only.
WITH_TORCH = (
    "prunec.runtime.gates",
    "prunec.runtime.gradients",
    "prunec.runtime.kernel_gradients",
    "prunec.runtime.sample_loss",
    "prunec.runtime.torch_modules",
    "prunec.runtime.torch_view",
    "prunec.runtime.training",
)


def modules() -> dict[str, Path]:
    """All modules of all packages; folders without an ``__init__.py`` are none."""
    found = {}
    for top in ("prunec", *FOLDERS):
        for path in sorted((REPOSITORY / top).rglob("*.py")):
            if (path.parent / "__init__.py").is_file():
                parts = path.relative_to(REPOSITORY).with_suffix("").parts
                name = ".".join(parts if top == "prunec" else ("prunec", *parts))
                found[name.removesuffix(".__init__")] = path
    return found


def importable() -> list[str]:
    """Modules that can be imported without running anything."""
    return [n for n in modules() if n not in SCRIPTS and not n.endswith("__main__")]
