"""Look for secrets in the files that git knows (detect-secrets).

    uv run scripts/scan_secrets.py [FILE ...]

Exit status 1, and a line for each, when there is one. What only looks like one is marked in its line with
``pragma: allowlist secret``. Tests are full of made-up passwords and ids, and prose of words beside "key":
there only what has the form of a real service's credential counts.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from detect_secrets import SecretsCollection
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.settings import transient_settings

ROOT = Path(__file__).resolve().parent.parent
HASHES = ("uv.lock", ".py.lock", "package-lock.json")  # full of digests, which no person writes
GUESSES = frozenset({"Secret Keyword", "Hex High Entropy String", "Base64 High Entropy String",
                     "Basic Auth Credentials"})  # fmt: skip
NO_SECRETS = frozenset({"IPPublicDetector"})
OWN = {"name": "AgentgwKeyDetector", "path": f"file://{ROOT}/scripts/secret_forms.py"}


def main(paths: list[str]) -> int:
    if not paths:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
        paths = [name for name in listed.stdout.decode().split("\0") if name]
    found = list(scan(paths))
    for line in found:
        print(line)
    print(f"{len(paths)} files, {len(found)} secrets")
    return 1 if found else 0


def scan(paths: Iterable[str], root: Path = ROOT) -> Iterable[str]:
    """A line for each secret in these files: where it is and of which kind, not what it is."""
    known = get_mapping_from_secret_type_to_class
    named = {plugin.__name__ for plugin in known().values()} - NO_SECRETS - {OWN["name"]}
    known.cache_clear()  # it does not look for ours again
    plugins = [{"name": name} for name in sorted(named)]
    with transient_settings({"plugins_used": [*plugins, OWN]}):
        for path in paths:
            if path.endswith(HASHES) or not (root / path).is_file():
                continue
            secrets = SecretsCollection(root=str(root))
            secrets.scan_file(path)
            made_up = path.startswith("tests/") or path.endswith(".md")
            for name, secret in secrets:
                refers = "${" in (secret.secret_value or "")  # to where the secret is
                if not ((made_up or refers) and secret.type in GUESSES):
                    yield f"{name}:{secret.line_number}: {secret.type}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
