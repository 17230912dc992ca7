"""Outputs appear together, whole, or not at all."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prunec.compiler.errors import OutputError
from prunec.runtime.subject import Subject


def write_text(path: Path, text: str) -> None:
    """Write a small file. Raises OutputError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def staged(targets: Sequence[Path], subject: Subject | None = None) -> Iterator[dict[Path, Path]]:
    """Where to write meanwhile: files move to their targets together, or not at all.

    Yields target -> temporary path in the target's folder (same file system, same base name, so
    that references to external data hold). Raises OutputError, with the old files untouched.
    """
    folders: dict[Path, tempfile.TemporaryDirectory[str]] = {}
    stage: dict[Path, Path] = {}
    source = subject.path if subject is not None else None
    try:
        for target in targets:
            if target.is_dir():
                raise OutputError(f"{target}: is a directory; give a file name")
            if target.exists() and not target.is_file():
                # A rename would put a file where a device or a pipe was.
                raise OutputError(f"{target}: is not a regular file; outputs replace files only")
            if source is not None and target.exists() and target.samefile(source):
                raise OutputError(f"{target}: would overwrite the input; choose another --output")
            parent = target.parent.resolve()
            if parent not in folders:
                try:
                    folders[parent] = tempfile.TemporaryDirectory(prefix=".prunec-", dir=parent)
                except OSError as error:
                    raise OutputError(
                        f"cannot write to {target.parent}: {error.strerror or error}"
                    ) from error
            stage[target] = Path(folders[parent].name) / target.name
        yield stage
        for target, temporary in stage.items():
            _move(temporary, target, frozenset(stage.values()))
    except OutputError as error:
        text = str(error)
        for target, temporary in stage.items():
            text = text.replace(str(temporary), str(target))
        raise OutputError(text) from error
    finally:
        for folder in folders.values():
            folder.cleanup()


def _move(temporary: Path, target: Path, staged_files: frozenset[Path]) -> None:
    # External data first: a model without its data would be half an output.
    beside = sorted(set(temporary.parent.glob(f"{glob.escape(temporary.name)}.*")) - staged_files)
    try:
        for path in [*beside, temporary]:
            path.replace(target.parent / path.name)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
