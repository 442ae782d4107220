"""Check that a wheel holds the package ``agentgw``, whole, and nothing else."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

FOLDERS = ("gateway", "adapters", "registry", "cli")
DATA = ("py.typed", "config.toml", "adapters/a2a/a2a.proto")


def expected(root: Path) -> set[str]:
    """What the checkout says must be inside."""
    modules = {p.relative_to(root).as_posix() for folder in FOLDERS for p in (root / folder).rglob("*.py")}
    return {f"agentgw/{name}" for name in {*modules, *DATA, "__init__.py"}}


def main() -> int:
    """Compare; print what differs. Exit status 1 on any difference."""
    names = set(zipfile.ZipFile(sys.argv[1]).namelist())
    inside = {n for n in names if ".dist-info/" not in n}
    want = expected(Path(__file__).parent.parent)
    for name in sorted(want - inside):
        print(f"missing in the wheel: {name}")
    for name in sorted(inside - want):
        print(f"not wanted in the wheel: {name}")
    if inside != want:
        return 1
    print(f"{Path(sys.argv[1]).name}: {len(inside)} files, all of them agentgw's")
    return 0


if __name__ == "__main__":
    sys.exit(main())
