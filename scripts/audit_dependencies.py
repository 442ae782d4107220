"""Look up everything that is locked in the database of known vulnerabilities (pip-audit, PyPI's advisories).

    uv run scripts/audit_dependencies.py [LOCKED_PROJECT ...]

Exit status 0: everything was looked up, and nothing is known; 1: something is known; 3: NOT AUDITED, for the
database could not be reached, or did not know all packages. That is tried with a release that is known to be
vulnerable: where nothing is said of it, silence on the others means nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROJECTS = (ROOT, ROOT / "examples" / "financial_analyst")
CANARY = "urllib3==1.24.1"
FINE, VULNERABLE, NOT_AUDITED = 0, 1, 3
ACCEPTED: dict[str, str] = {}  # an advisory's id: why it does not concern us


def main(projects: Sequence[Path]) -> int:
    if not audited("--no-deps", requirements=CANARY + "\n")["dependencies"][0].get("vulns"):
        print(f"NOT AUDITED: the database of advisories can't be reached from here (asked for {CANARY})")
        return NOT_AUDITED
    status = FINE
    for project in projects:
        export = ["uv", "export", "--locked", "--all-extras", "--all-groups", "--no-emit-project", "--quiet"]
        locked = subprocess.run(
            [*export, "--project", str(project)], check=True, capture_output=True, text=True
        ).stdout
        found, text = verdict(audited("--require-hashes", requirements=locked))
        print(f"{project.name}: {text}")
        status = VULNERABLE if VULNERABLE in (found, status) else max(found, status)
    return status


def audited(*options: str, requirements: str) -> dict[str, Any]:
    """pip-audit's report. Its exit status says nothing: it is 0 where no package could be looked up."""
    with tempfile.TemporaryDirectory() as place:
        listed, report = Path(place) / "requirements.txt", Path(place) / "report.json"
        listed.write_text(requirements)
        done = subprocess.run(
            [
                sys.executable, "-m", "pip_audit", "--requirement", listed, "--disable-pip", *options,
                "--progress-spinner", "off", "--format", "json", "--output", report,
            ],
            capture_output=True, text=True, timeout=1200,
        )  # fmt: skip
        if not report.exists():
            return {"dependencies": [{"name": "all", "skip_reason": done.stderr.strip()[-300:]}]}
        return json.loads(report.read_text())


def verdict(report: dict[str, Any]) -> tuple[int, str]:
    """The exit status for a report, and what to print."""
    packages = report["dependencies"]
    skipped = [p for p in packages if "skip_reason" in p]
    bad = [
        f"{p['name']} {p['version']}: {v['id']}" + "".join(f", fixed in {f}" for f in v["fix_versions"][:1])
        for p in packages
        for v in p.get("vulns", ())
        if not {v["id"], *v.get("aliases", ())} & ACCEPTED.keys()
    ]
    if bad:
        return VULNERABLE, "VULNERABLE: " + "; ".join(bad)
    if skipped or not packages:
        names = ", ".join(p["name"] for p in skipped[:5])
        return NOT_AUDITED, f"NOT AUDITED: {len(skipped)} of {len(packages)} not looked up ({names})"
    return FINE, f"{len(packages)} packages, no known vulnerability"


if __name__ == "__main__":
    sys.exit(main([Path(p) for p in sys.argv[1:]] or PROJECTS))
