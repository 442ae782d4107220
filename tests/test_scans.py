"""The scans that CI runs find what they look for, and say so when they could not look."""

from __future__ import annotations

import importlib.util
import secrets
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# In pieces, so that they are not found here.
PLANTED = {
    "an agentgw key": "key = " + "agw_" + "0123456789abcdef_" + secrets.token_urlsafe(32),
    "a cloud's key": "AK" + "IAIOSFODNN7EXAMPL" + "E",
    "a private key": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "a code host's token": "gh" + "p_" + "a1B2" * 9,
    "a chat's token": "xo" + "xb-123456789012-1234567890123-" + "aBcD" * 6,
    "a payment service's key": "sk" + "_live_" + "a1B2" * 6,
}


@pytest.mark.parametrize("what", PLANTED)
@pytest.mark.parametrize("place", ["gateway/x.py", "tests/x.py", "docs/x.md", "config.toml"])
def test_a_planted_secret_is_found(what: str, place: str, tmp_path: Path) -> None:
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"a = 1\n# {PLANTED[what]}\n")
    (line, *_) = script("scan_secrets").scan([place], tmp_path)
    assert line.startswith(f"{place}:2: ")
    assert PLANTED[what][-10:] not in line


def test_a_password_in_the_code_is_found_and_one_in_a_test_is_none(tmp_path: Path) -> None:
    for place in ("gateway", "tests"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "x.py").write_text('password = "' + "correct horse" + '9"\n')
    found = list(script("scan_secrets").scan(["gateway/x.py", "tests/x.py"], tmp_path))
    assert found == ["gateway/x.py:1: Secret Keyword"]


def package(name: str, *vulns: str, **more: Any) -> dict[str, Any]:
    known = [{"id": v, "aliases": [], "fix_versions": ["2.0"]} for v in vulns]
    return {"name": name, "version": "1.0", "vulns": known, **more}


SKIPPED = {"name": "b", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ([package("a"), package("b")], 0, "2 packages, no known vulnerability"),
        ([package("a", "PYSEC-1")], 1, "VULNERABLE: a 1.0: PYSEC-1, fixed in 2.0"),
        ([package("a", "PYSEC-1"), SKIPPED], 1, "VULNERABLE"),
        ([package("a"), SKIPPED], 3, "NOT AUDITED: 1 of 2"),
        ([], 3, "NOT AUDITED"),
    ],
)
def test_what_was_not_looked_up_is_never_fine(packages: list[Any], status: int, words: str) -> None:
    found, text = script("audit_dependencies").verdict({"dependencies": packages})
    assert found == status
    assert words in text


def test_a_database_that_knows_nothing_of_a_vulnerable_release_was_not_reached(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audit = script("audit_dependencies")
    for answer in (package("urllib3"), {"name": "urllib3", "skip_reason": "not found"}):
        monkeypatch.setattr(audit, "audited", lambda *_, requirements, a=answer: {"dependencies": [a]})
        assert audit.main([ROOT]) == 3
        assert "NOT AUDITED" in capsys.readouterr().out


def test_an_audit_that_does_not_run_is_not_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    audit = script("audit_dependencies")
    monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "no such service")
    assert audit.verdict(audit.audited("--no-deps", requirements="a==1\n"))[0] == 3
