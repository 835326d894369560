"""Rules of the house that no other tool checks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "flyteplugins_vol"
MODULES = sorted(PACKAGE.rglob("*.py"))

MAY_READ_ENVIRONMENT = ("config.py", "cli", "integrations")
"""`config` is for everybody; argv and environment are also read at the edge."""


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is_for(module: Path) -> None:
    tree = ast.parse(module.read_text())
    assert not tree.body or ast.get_docstring(tree)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_environment_is_read_in_one_place(module: Path) -> None:
    part = module.relative_to(PACKAGE).parts[0]
    if part not in MAY_READ_ENVIRONMENT:
        assert list(_readings_of_environment(ast.parse(module.read_text()))) == []


def _readings_of_environment(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"}:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def test_extras_are_those_that_are_promised() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"flyte", "flytekit", "tui", "s3", "all"} <= project["optional-dependencies"].keys()
    core = " ".join(project["dependencies"])
    assert not re.search(r"flyte|textual|kubernetes|s3fs", core)
    assert "pyfuse3" not in core, "it has no wheels: what an image installs by pip has nothing to compile"


def test_documents_name_only_what_exists() -> None:
    """Links to files and `make` targets in the documents lead somewhere."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in [*ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("docs/**/*.md")]:
        text = document.read_text()
        links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
        missing = [link for link in links if link and not (document.parent / link).exists()]
        assert not missing, f"{document.name} links to what is not there"
        unknown = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.MULTILINE)) - targets
        assert not unknown, f"{document.name} names no target of the Makefile"


def test_tests_leave_nothing_in_the_systems_temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever asks for it, here or in a process that a test starts, gets one that goes with the run."""
    own = Path(tempfile.gettempdir())
    assert own.name.startswith("flytevol-tests-")
    asked = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"]
    assert subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip() == str(own)
    assert not tmp_path_factory.getbasetemp().is_relative_to(own), "pytest keeps its own"
