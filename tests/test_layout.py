"""The package as installed: what is in it, what it starts, what it imports."""

from __future__ import annotations

import configparser
import importlib.metadata
import importlib.resources
import importlib.util
import re
import shutil
import subprocess
import sys

import pytest
from package_tree import FOLDERS, REPOSITORY, WITH_TORCH, importable, modules

import prunec

IMPORT_EACH = """
import importlib, sys

for name in sys.argv[1:]:
    importlib.import_module(name)
    for found in ("torch", "onnxruntime"):
        assert found not in sys.modules, f"{name} imports {found}"
"""


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg")
    return parser


def in_subprocess(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_folder_with_an_init_file_is_a_listed_package() -> None:
    packages = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert set(setup_cfg()["options"]["packages"].split()) == packages


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_top_level_folder_installs_below_prunec(folder: str) -> None:
    mapping = dict(
        re.split(r"\s*=\s*", line)
        for line in setup_cfg()["options"]["package_dir"].strip().splitlines()
    )
    assert mapping[f"prunec.{folder}"] == folder
    spec = importlib.util.find_spec(f"prunec.{folder}")
    assert spec is not None
    assert spec.origin is not None


def test_every_module_of_the_tree_is_installed() -> None:
    assert [name for name in modules() if importlib.util.find_spec(name) is None] == []


def test_the_package_is_typed() -> None:
    assert importlib.resources.files("prunec").joinpath("py.typed").is_file()


def test_the_demo_data_is_installed() -> None:
    folder = importlib.resources.files("prunec.tools.demo")
    sizes = [len(folder.joinpath(name).read_bytes()) for name in ("digits.onnx", "digits.npz")]
    assert 0 < sum(sizes) < 500_000


def test_the_version_is_that_of_the_distribution() -> None:
    assert prunec.__version__ == importlib.metadata.version("prunec")


def test_the_console_script_runs_the_command_line() -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="prunec")
    assert entry.value == "prunec.tools.cli:main"
    assert callable(entry.load())


def test_the_module_runs_as_the_command_does() -> None:
    done = in_subprocess("-m", "prunec", "--version")
    assert (done.returncode, done.stdout) == (0, f"prunec {prunec.__version__}\n")


def test_no_module_imports_torch_or_onnxruntime_when_it_is_imported() -> None:
    """Apart from those that compute with it, which no other module imports."""
    free = [
        name
        for name in importable()
        if not f"{name}.".startswith(tuple(f"{n}." for n in WITH_TORCH))
    ]
    assert free != importable()
    done = in_subprocess("-c", IMPORT_EACH, *free)
    assert done.returncode == 0, done.stderr


def test_the_command_line_starts_without_numpy() -> None:
    done = in_subprocess("-c", "import prunec.tools.cli, sys; print('numpy' in sys.modules)")
    assert (done.returncode, done.stdout) == (0, "False\n")


def test_never_both_flavours_of_onnxruntime() -> None:
    extras = setup_cfg()["options.extras_require"]
    together = [name for name, value in extras.items() if "gpu" in value and name != "gpu"]
    assert together == []
    assert "onnxruntime" not in setup_cfg()["options"]["install_requires"]


def test_tracked_files_name_no_place_on_the_machine_they_were_made_on() -> None:
    git = shutil.which("git")
    if git is None or not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout: no list of tracked files")
    listed = subprocess.run(
        [git, "-C", str(REPOSITORY), "-c", "safe.directory=*", "ls-files", "-z"],
        capture_output=True, check=True,
    )  # fmt: skip
    files = [REPOSITORY / name.decode() for name in listed.stdout.split(b"\0") if name]
    # In pieces, or this file would be found.
    pattern = re.compile(rb"(?<![\w.])/(" + b"|".join([b"work", b"tmp/w", b"home"]) + rb")/")
    named = [str(path) for path in files if path.is_file() and pattern.search(path.read_bytes())]
    assert named == []
