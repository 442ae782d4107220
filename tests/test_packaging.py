"""What is installed is what is there."""

import tomllib
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_package_on_disk_is_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {"agentgw"}
    for folder in ("gateway", "adapters", "registry", "cli"):
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join(["agentgw", *init.parent.relative_to(ROOT).parts]))
    assert sorted(declared) == sorted(found)


def test_every_module_is_in_a_package() -> None:
    for folder in ("gateway", "adapters", "registry", "cli"):
        for module in (ROOT / folder).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), module


def test_the_built_in_adapters_are_plugins() -> None:
    names = {entry.name for entry in entry_points(group="agentgw.adapters")}
    assert {"mcp", "a2a", "acp"} <= names


def test_the_readmes_test_command_is_the_one_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text()
    _, marker, rest = readme.partition("<!-- test-command -->")
    assert marker
    assert "scripts/test" in rest.split("```")[1]
    assert "test-command" in (ROOT / ".ci/run").read_text()
