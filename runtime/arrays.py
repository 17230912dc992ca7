"""Samples from .npz and .npy files and from user functions."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prunec.compiler.errors import DataError, PrunecError
from prunec.compiler.spec import suggest
from prunec.runtime.chunks import LABEL_NAMES, Chunk, chunk_of
from prunec.runtime.inputs import Array, InputSpec


def array_chunks(
    files: Sequence[Path], inputs: tuple[InputSpec, ...], source: str
) -> Iterator[Chunk]:
    """One chunk per file; .npy files named after the inputs (and labels) make one together."""
    named = {path.stem: path for path in files if path.suffix.lower() == ".npy"}
    inputs_named = {spec.name for spec in inputs} <= set(named)
    if len(named) == len(files) > 1 and (inputs_named or set(named) & set(LABEL_NAMES)):
        yield chunk_of({name: _read_npy(path) for name, path in named.items()}, inputs, source)
        return
    for path in files:
        if path.suffix.lower() == ".npz":
            yield chunk_of(_read_npz(path), inputs, str(path))
        elif len(inputs) == 1:
            yield chunk_of({inputs[0].name: _read_npy(path)}, inputs, str(path))
        else:
            names = ", ".join(spec.name for spec in inputs)
            raise DataError(f"{path}: one array cannot feed {len(inputs)} inputs ({names})")


def _read_npy(path: Path) -> Array:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a readable .npy file ({_reason(error)})") from error
    return np.asarray(array)


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable .npz file ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return "it holds pickled objects" if "pickle" in str(error) else (text or ["empty"])[0]


def call_function(path: str, inputs: tuple[InputSpec, ...]) -> Iterator[Chunk]:
    """Chunks from ``module:function`` or ``file.py:function``, called without arguments.

    It yields (or returns) feeds by name, one array, or (array, label); samples or batches.
    """
    return result_chunks(path, call(path), inputs)


def call(path: str) -> object:
    """What ``module:function`` or ``file.py:function`` gives, called without arguments."""
    function = find_function(path)
    return guarded(path, function)


def result_chunks(path: str, result: object, inputs: tuple[InputSpec, ...]) -> Iterator[Chunk]:
    """Chunks of what such a function gave: an array, a tuple, a dict, or an iterable of those."""
    iterator = iter(guarded(path, lambda: _as_iterable(result)))
    while True:
        item = guarded(path, lambda: next(iterator, None))
        if item is None:
            return
        # B023: the function is called at once, while `item` is still this one.
        yield chunk_of(guarded(path, lambda: named_arrays(item, inputs, path)), inputs, path)  # noqa: B023


def guarded(path: str, call: Callable[[], Any]) -> Any:
    """What the user's code gives. Raises DataError that names it and says what went wrong."""
    try:
        return call()
    except PrunecError:
        raise
    except Exception as error:  # anything can be wrong in the user's code; its own words go on
        raise DataError(f"{path} failed with {type(error).__name__}: {_reason(error)}") from error


def _as_iterable(result: object) -> Iterable[object]:
    if isinstance(result, (np.ndarray, Mapping, tuple)):
        return [result]
    if not isinstance(result, Iterable):
        raise DataError(f"the function gives {type(result).__name__}, not feeds")
    return result


def named_arrays(item: object, inputs: tuple[InputSpec, ...], path: str) -> dict[str, Array]:
    """An item of the user's by name: a dict as it is, an array as the input, a pair with a label.

    Raises DataError where a model has several inputs and the item no names.
    """
    if isinstance(item, Mapping):
        return {str(name): np.asarray(array) for name, array in item.items()}
    if len(inputs) != 1:
        raise DataError(f"{path}: the model has {len(inputs)} inputs; yield dicts by input name")
    if isinstance(item, (tuple, list)) and len(item) == 2:
        label = next(name for name in LABEL_NAMES if name != inputs[0].name)
        return {inputs[0].name: np.asarray(item[0]), label: np.asarray(item[1])}
    return {inputs[0].name: np.asarray(item)}


def find_function(path: str) -> Callable[..., object]:
    """The function, or class, that ``module:function`` or ``file.py:function`` names.

    Raises DataError where there is none.
    """
    module_name, _, function_name = path.rpartition(":")
    module = guarded(path, lambda: _import(module_name))
    names = [name for name in vars(module) if callable(getattr(module, name))]
    if function_name not in names:
        raise DataError(
            f"{module_name} has no function {function_name!r}{suggest(function_name, names)}"
        )
    found: Callable[..., object] = getattr(module, function_name)
    return found


def _import(name: str) -> Any:
    file = Path(name)
    if file.suffix == ".py" and not file.is_file():
        raise DataError(f"{file}: no such file")
    # The console script has its own folder on the path, not the one the user stands in.
    folder = str(file.parent.resolve() if file.suffix == ".py" else Path.cwd())
    sys.path.insert(0, folder)
    try:
        return _execute(file) if file.suffix == ".py" else importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise DataError(f"{name} cannot be imported ({error})") from error
    finally:
        sys.path.remove(folder)


def _execute(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"prunec_data_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module
