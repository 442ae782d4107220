"""``agentgw keys``: without a gateway, in the data directory; and what ``serve`` makes of them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from .conftest import Cli


def run(cli: Cli, *words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = cli.run(*words)
    assert done.returncode == expect, done.stderr
    return done


def test_a_new_key_is_shown_once_and_kept_as_a_hash(cli: Cli) -> None:
    made = run(cli, "keys", "create", "ci", "--agents", "b,a", "--agents", "c", "--json")
    key = json.loads(made.stdout)
    assert (key["name"], key["agents"], key["admin"]) == ("ci", ["a", "b", "c"], False)
    assert key["secret"].startswith(f"agw_{key['id']}_")
    listed = run(cli, "keys", "list", "--json").stdout
    assert [(k["name"], k["id"], k["state"]) for k in json.loads(listed)] == [("ci", key["id"], "active")]
    assert key["secret"] not in listed
    with sqlite3.connect(cli.home / "agentgw.db") as db:
        kept = b"".join(value for (value,) in db.execute("SELECT value FROM items"))
    assert key["secret"].encode() not in kept


def test_without_json_the_secret_alone_is_on_stdout(cli: Cli) -> None:
    made = run(cli, "keys", "create", "ci", "--admin")
    assert made.stdout.startswith("agw_")
    assert len(made.stdout.split()) == 1
    assert "every caller needs one" in made.stderr
    assert "every caller needs one" not in run(cli, "keys", "create", "other").stderr


@pytest.mark.parametrize(
    ("text", "rate", "shown"), [("20/s", 20.0, "20/s"), ("90/m", 1.5, "90/m"), ("0", 0.0, "any")]
)
def test_a_key_has_a_rate(cli: Cli, text: str, rate: float, shown: str) -> None:
    key = json.loads(run(cli, "keys", "create", "ci", "--rate", text, "--json").stdout)
    run(cli, "keys", "create", "usual")
    listed = json.loads(run(cli, "keys", "list", "--json").stdout)
    assert (key["rate"], [k["rate"] for k in listed]) == (rate, [rate, None])
    _, ci, usual = run(cli, "keys", "list").stdout.splitlines()
    assert shown in ci.split()
    assert shown not in usual.split()


@pytest.mark.parametrize("text", ["30d", "12h", "3s", "1h30m", "2999-01-31T12:00:00Z", "2999-01-31"])
def test_a_key_expires(cli: Cli, text: str) -> None:
    key = json.loads(run(cli, "keys", "create", "ci", "--expires", text, "--json").stdout)
    at = datetime.fromisoformat(key["expires_at"])
    if text[0] == "2":
        assert at == datetime.fromisoformat(text).replace(tzinfo=UTC)
    else:
        assert at > datetime.now(UTC)
        assert at < datetime.now(UTC) + timedelta(days=31)


@pytest.mark.parametrize(
    "words",
    [
        ["--expires", "soon"],
        ["--expires", "2001-01-01T00:00:00Z"],
        ["--expires", "0s"],
        ["--rate", "often"],
        ["--rate", "5/d"],
        ["--agents", ","],
        ["--agents", "No Agent"],
    ],
)
def test_wrong_use_is_one_line(cli: Cli, words: list[str]) -> None:
    failed = run(cli, "keys", "create", "ci", *words, expect=2)
    assert failed.stderr.startswith("agentgw: ")
    assert failed.stderr.count("\n") == 1
    assert json.loads(run(cli, "keys", "list", "--json").stdout) == []


def test_a_name_is_taken_while_its_key_is_good(cli: Cli) -> None:
    run(cli, "keys", "create", "ci")
    assert "already" in run(cli, "keys", "create", "ci", expect=2).stderr
    assert json.loads(run(cli, "keys", "revoke", "ci", "--json").stdout)["state"] == "revoked"
    run(cli, "keys", "create", "ci")
    run(cli, "keys", "remove", "ci")
    assert "no keys" in run(cli, "keys", "list").stderr


def test_an_unknown_key_is_an_error(cli: Cli) -> None:
    assert "no key named ci" in run(cli, "keys", "revoke", "ci", expect=1).stderr


def test_beyond_loopback_serve_wants_a_key_first(cli: Cli) -> None:
    for words in (["--host", "0.0.0.0"], ["--public-url", "https://gw.example"]):
        failed = run(cli, "serve", "--port", "0", *words, expect=2)
        assert failed.stderr.count("\n") == 1
        assert "agentgw keys create" in failed.stderr


def test_connect_says_that_a_key_is_needed(cli: Cli) -> None:
    def headers() -> Any:
        server = json.loads(run(cli, "connect", "cursor").stdout)["mcpServers"]["agentgw"]
        return server.get("headers")

    assert headers() is None
    secret = json.loads(run(cli, "keys", "create", "ci", "--json").stdout)["secret"]
    assert headers() == {"Authorization": "Bearer ${env:AGENTGW_TOKEN}"}
    assert secret not in run(cli, "connect", "cursor").stdout
