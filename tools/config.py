"""The configuration file: options of the commands by their keys, and settings per hyperedge."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunec.compiler.errors import UsageError
from prunec.compiler.spec import suggest
from prunec.tools.options import MAIN, Option
from prunec.tools.training_options import LEARNING, QUANTISING, SOURCES, TRAINING

if TYPE_CHECKING:
    from prunec.passes.options import Override

Groups = Mapping[str, tuple[Option, ...]]
FILES = (".json", ".toml")  # of options that take a specification or the name of a file
OVERRIDE_KEYS: Mapping[str, type] = {"align": int, "min_keep": int, "keep": bool}


def merge_config(
    space: argparse.Namespace, path: str | None, options: Groups | None = None
) -> dict[str, Override]:
    """Fill what the command line leaves open from a file; the overrides per hyperedge.

    options: those of the command, by group; they decide what a key means that several commands
    have. Keys of the main job and of training that this command does not have are accepted and
    ignored: one file serves several commands. File names in it are relative to its folder. Raises
    UsageError.
    """
    if path is None:
        return {}
    file = Path(path)
    table = _read(file)
    overrides = _overrides(file, table.pop("hyperedges", {}))
    groups = (*MAIN.values(), SOURCES, LEARNING, TRAINING, QUANTISING, *(options or {}).values())
    known = {option.key: option for group in groups for option in group}
    for written, value in table.items():
        key = written.replace("-", "_")
        if key not in known:
            raise UsageError(
                f"{file}: unknown key {written!r}{suggest(key, [*known, 'hyperedges'])}"
            )
        converted = _convert(file, written, known[key], value)
        if key in vars(space) and getattr(space, key) is None:
            setattr(space, key, converted)
    return overrides


def _read(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}") from error
    except ValueError as error:  # a TOMLDecodeError or UnicodeDecodeError
        raise UsageError(f"{file}: is not TOML: {error}") from error


def _convert(file: Path, written: str, option: Option, value: object) -> object:
    where = f"{file}: {written}"
    if option.convert is None or option.convert is bool:
        wanted = int if option.convert is None else bool
        if type(value) is not wanted:
            kind = "a whole number" if wanted is int else "true or false"
            raise UsageError(f"{where}: must be {kind}, not {value!r}")
        return value
    if option.many:
        texts = [_one(where, option, item) for item in _items(value, option.key)]
        return [_beside(file, str(t)) if str(t).endswith(".py") else t for t in texts]
    if isinstance(value, list):
        value = ",".join(str(_text(where, item)) for item in value)
    converted = _one(where, option, value)
    if option.file or str(converted).endswith(FILES):
        return _beside(file, str(converted))
    return converted


def _items(value: object, key: str) -> Iterable[object]:
    if isinstance(value, dict):
        # budget = {flops = 0.46}, shape = {image = [1, 3, 32, 32]}
        joint = ":" if key == "shape" else "="
        return [
            f"{name}{joint}{','.join(map(str, v)) if isinstance(v, list) else v}"
            for name, v in value.items()
        ]
    return value if isinstance(value, list) else [value]


def _one(where: str, option: Option, value: object) -> object:
    assert option.convert is not None
    text = _text(where, value)
    try:
        converted = option.convert(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{where}: {error}") from None
    if option.choices is not None and converted not in option.choices:
        raise UsageError(f"{where}: unknown value {text!r}{suggest(text, option.choices)}")
    return converted


def _text(where: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{where}: must be text or a number, not {value!r}")
    return str(value)


def _beside(file: Path, text: str) -> str:
    # `module:function` stays as it is, unless the file's folder holds such a name.
    path = file.parent / text
    return str(path) if ":" not in text or path.exists() else text


def _overrides(file: Path, tables: object) -> dict[str, Override]:
    from prunec.passes.options import Override

    if not isinstance(tables, dict):
        raise UsageError(f"{file}: hyperedges: must hold tables such as [hyperedges.'layer1']")
    out = {}
    for pattern, settings in tables.items():
        where = f"{file}: hyperedges.{pattern!r}"
        if not isinstance(settings, dict):
            raise UsageError(f"{where}: must be a table with {', '.join(OVERRIDE_KEYS)}")
        given = {key.replace("-", "_"): value for key, value in settings.items()}
        for key, value in given.items():
            if key not in OVERRIDE_KEYS:
                raise UsageError(f"{where}: unknown key {key!r}{suggest(key, OVERRIDE_KEYS)}")
            if type(value) is not OVERRIDE_KEYS[key]:
                kind = "true or false" if key == "keep" else "a whole number"
                raise UsageError(f"{where}: {key} must be {kind}, not {value!r}")
            if key != "keep" and isinstance(value, int) and value < (key == "align"):
                raise UsageError(f"{where}: {key} must be at least {key == 'align':d}, not {value}")
        out[pattern] = Override(**given)
    return out
