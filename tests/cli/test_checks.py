"""Each check of ``agentgw doctor``, given facts."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentgw.cli.checks import agents, disk, exposure, extras, machine, running, settings
from agentgw.cli.checks.facts import Facts, Issuer, Running
from agentgw.cli.checks.finding import Finding
from agentgw.gateway.config import AgentEntry, Audit, Auth, Config, OAuthEntry, Server, Tracing
from agentgw.gateway.control import AgentInfo, GatewayInfo
from agentgw.gateway.model import OAuth, Record
from agentgw.registry import schema
from agentgw.registry.lock import HomeLock, taken
from agentgw.registry.sqlite import FILE, SqliteStore

NOW = 1_800_000_000.0
Look = Callable[[Facts], Iterator[Finding]]
SECRET = OAuth(token_url="https://login.example/token", client_id="me", client_secret="${SECRET}")


@pytest.fixture
def facts(tmp_path: Path) -> Callable[..., Facts]:
    """Facts of an installation in which all is well, but for what is said."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)

    def made(**said: Any) -> Facts:
        return Facts(**({"home": home, "now": NOW, "keys": 0, "environ": {"PATH": os.defpath}} | said))

    return made


def only(look: Look, facts: Facts) -> Finding:
    (finding,) = look(facts)
    assert finding.problem and finding.fix
    return finding


def well(name: str = "echo", **more: Any) -> AgentInfo:
    said = {"protocol": "mcp", "target": "http://a/", "enabled": True, "health": "ok", "description": ""}
    return AgentInfo(name=name, **(said | more))


def record(name: str = "echo", **more: Any) -> Record:
    return Record(name=name, **({"protocol": "a2a", "url": "http://a/"} | more))


@pytest.mark.parametrize(
    "look",
    [
        settings.configuration, disk.data, exposure.exposure, agents.agents, extras.extras, machine.machine,
    ],
)  # fmt: skip
def test_where_all_is_well_nothing_is_found(facts: Callable[..., Facts], look: Look) -> None:
    assert list(look(facts(stored=[record()], agents=[well()]))) == []


# --- configuration -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Config(auth=Auth(issuer="https://a", scopes={"*": ("*",)})), "auth.audience"),
        (Config(auth=Auth(issuer="https://a", audience=("b",))), "auth.scopes is empty"),
        (Config(tracing=Tracing(payloads=True)), "tracing.payloads"),
        (Config(agents={"a": AgentEntry(url="http://a", headers={"Authorization": "x"})}), "in clear"),
        (Config(agents={"a": AgentEntry(url="http://a", headers={"X": "${file:no}"})}), "a reference"),
        (
            Config(agents={"a": AgentEntry(url="http://a", oauth=OAuthEntry(token_url="https://b"))}),
            "client secret",
        ),
    ],
)
def test_what_is_hardly_meant_so(facts: Callable[..., Facts], config: Config, said: str) -> None:
    finding = only(settings.configuration, facts(config=config))
    assert said in finding.problem and finding.wrong


def test_an_agent_that_the_file_hides(facts: Callable[..., Facts]) -> None:
    config = Config(agents={"echo": AgentEntry(url="http://b/")})
    finding = only(settings.configuration, facts(config=config, stored=[record()]))
    assert "echo" in finding.problem and not finding.wrong


# --- the data directory ------------------------------------------------------------------------


def test_a_home_that_is_no_directory(facts: Callable[..., Facts], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "no directory" in only(disk.data, facts(home=tmp_path / "file")).problem


def test_a_home_that_can_not_be_made(facts: Callable[..., Facts], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "can't be made" in only(disk.data, facts(home=tmp_path / "file" / "deeper" / "home")).problem


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
@pytest.mark.parametrize(("mode", "wrong"), [(0o755, False), (0o770, True), (0o777, True)])
def test_a_home_for_others(facts: Callable[..., Facts], mode: int, wrong: bool) -> None:
    found = facts()
    found.home.chmod(mode)
    finding = only(disk.data, found)
    assert f"{mode:o}" in finding.problem
    assert finding.fix == f"chmod 700 {found.home}"
    assert finding.wrong is wrong


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_a_file_for_others(facts: Callable[..., Facts]) -> None:
    found = facts()
    (found.home / "owner.json").write_text("{}")
    (found.home / "owner.json").chmod(0o644)
    assert only(disk.data, found).fix == f"chmod 600 {found.home / 'owner.json'}"


def test_whose_the_home_is(facts: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    found = facts()
    monkeypatch.setattr(os, "geteuid", lambda: found.home.stat().st_uid + 1)
    assert "another user" in only(disk.data, found).problem


def test_a_home_that_can_only_be_read(facts: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "can't be written" in only(disk.data, facts()).problem


def test_little_room(facts: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "ROOM", 1 << 62)
    assert "MiB are free" in only(disk.data, facts()).problem


def test_an_audit_log_that_can_not_be_written(facts: Callable[..., Facts], tmp_path: Path) -> None:
    config = Config(audit=Audit(file=str(tmp_path / "none" / "audit.jsonl")))
    assert "audit" in only(disk.data, facts(config=config)).problem
    off = msgspec.structs.replace(config, audit=msgspec.structs.replace(config.audit, enabled=False))
    assert list(disk.data(facts(config=off))) == []


@pytest.mark.parametrize(
    ("more", "said", "wrong"), [(1, "newer agentgw", True), (-1, "older version", False)]
)
async def test_a_store_of_another_version(
    facts: Callable[..., Facts], more: int, said: str, wrong: bool
) -> None:
    found = facts()
    store = SqliteStore(found.home, spans=1)
    await store.open()
    await store.aclose()
    with contextlib.closing(sqlite3.connect(found.home / FILE)) as db:
        db.execute(f"PRAGMA user_version = {len(schema.STEPS) + more}")
    finding = only(disk.data, found)
    assert said in finding.problem and finding.wrong is wrong


def test_keys_that_seal_nothing(facts: Callable[..., Facts]) -> None:
    found = facts()
    (found.home / "seal.keys").write_text("not a key\n")
    (found.home / "seal.keys").chmod(0o600)
    finding = only(disk.data, found)
    assert "seal.keys" in finding.problem and "put back a copy" in finding.fix


async def test_who_has_the_lock_is_seen_without_taking_it(tmp_path: Path) -> None:
    assert not taken(tmp_path)
    lock = HomeLock(tmp_path, "agentgw serve")
    await lock.acquire(0)
    assert taken(tmp_path) and taken(tmp_path)
    lock.release()
    assert not taken(tmp_path)
    await lock.acquire(0)
    lock.release()


# --- the gateway, and who can call it ------------------------------------------------------------


def test_a_command_that_has_the_directory_is_no_trouble(facts: Callable[..., Facts]) -> None:
    assert not only(running.gateway, facts(locked=True)).wrong


def reached(facts: Callable[..., Facts], keys: int | None = 0, ended: int = 0, **server: Any) -> Facts:
    """A gateway runs that can be called so."""
    info = GatewayInfo(version="1", **({"host": "127.0.0.1"} | server))
    return facts(running=Running(url="http://127.0.0.1:1", info=info), keys=keys, ended=ended)


@pytest.mark.parametrize(
    ("server", "keys", "said", "wrong"),
    [
        ({"host": "10.0.0.1", "allow_anonymous": True}, 0, "without keys", False),
        ({"public_url": "https://a.example", "allow_anonymous": True}, 0, "https://a.example", False),
        ({"public_url": "http://a.example"}, 1, "not encrypted", False),
        ({"host": "0.0.0.0"}, 1, "loopback alone", True),
    ],
)
def test_who_can_call(
    facts: Callable[..., Facts], server: dict[str, Any], keys: int, said: str, wrong: bool
) -> None:
    finding = only(exposure.exposure, reached(facts, keys, **server))
    assert said in finding.problem and finding.wrong is wrong


@pytest.mark.parametrize(
    ("server", "keys"),
    [
        ({}, 0),
        ({"host": "10.0.0.1"}, 1),
        ({"host": "10.0.0.1"}, None),
        ({"host": "0.0.0.0", "hosts": ("a.example",)}, 1),
        ({"public_url": "https://a.example", "issuer": "https://b.example"}, 0),
    ],
)
def test_what_is_as_it_should_be(
    facts: Callable[..., Facts], server: dict[str, Any], keys: int | None
) -> None:
    assert list(exposure.exposure(reached(facts, keys, **server))) == []


def test_serve_would_want_a_key(facts: Callable[..., Facts]) -> None:
    found = facts(config=Config(server=Server(host="10.0.0.1")))
    assert "does not start without a key" in only(exposure.exposure, found).problem


def test_keys_that_have_all_ended(facts: Callable[..., Facts]) -> None:
    assert "all keys have ended" in only(exposure.exposure, reached(facts, keys=2, ended=2)).problem
    assert list(exposure.exposure(reached(facts, keys=2, ended=1))) == []


# --- agents ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ({"health": "down", "detail": "X needs the environment variable Y, which is not set"}, "restart"),
        ({"health": "down", "detail": "X needs ${file:/a}, which does not exist"}, "agents disable echo"),
        ({"health": "down", "target": "python a.py"}, "agentgw agents logs echo"),
        ({"health": "down"}, "agentgw agents remove echo"),
        ({"health": "down", "source": "config"}, "[agents.echo]"),
        ({"health": "degraded"}, "agentgw agents check echo"),
        ({"health": "needs-auth"}, "agentgw agents login echo"),
        ({"health": "needs-auth", "protocol": "a2a"}, "--header"),
        ({"health": "needs-auth", "oauth": SECRET}, "me at https://login.example/token"),
        ({"health": "needs-auth", "headers": {"Authorization": "Bearer ${A}"}}, "what its header stands for"),
        ({"health": "needs-auth", "protocol": "a2a", "login": True}, "agentgw agents login echo"),
    ],
)
def test_each_way_of_being_unwell_has_its_fix(
    facts: Callable[..., Facts], agent: dict[str, Any], said: str
) -> None:
    finding = only(agents.agents, facts(agents=[well(**agent)]))
    assert said in finding.fix and finding.wrong


def test_who_is_disabled_may_be_unwell(facts: Callable[..., Facts]) -> None:
    found = facts(agents=[well(enabled=False, health="down")], stored=[record(enabled=False, command=["no"])])
    assert list(agents.agents(found)) == []


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"headers": {"X": "${NOT_SET}"}}, "NOT_SET"),
        ({"headers": {"X": "${file:/no/such/file}"}}, "/no/such/file"),
        ({"oauth": SECRET}, "SECRET"),
        ({"url": None, "command": ("no-such-program",)}, "no-such-program"),
        ({"url": None, "command": ("./no-such-program",), "cwd": "/"}, "no-such-program"),
        ({"url": None, "command": ("sh",), "cwd": "/no/such/directory"}, "/no/such/directory"),
        ({"url": None, "command": ("sh",), "env": {"A": "${NOT_SET}"}}, "NOT_SET"),
    ],
)
def test_what_an_agent_lacks(facts: Callable[..., Facts], what: dict[str, Any], said: str) -> None:
    found = facts(stored=[record(**what)], agents=[well(health="down", detail="of before")])
    finding = only(agents.agents, found)
    assert said in finding.problem
    # A running gateway has an environment of its own, and has tried.
    there = msgspec.structs.replace(found, running=Running(url="http://127.0.0.1:1"))
    assert only(agents.agents, there).problem == "echo is down: of before"


def test_what_a_command_needs_is_there(facts: Callable[..., Facts], tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    stored = [
        record("a", url=None, command=("sh",)),
        record("b", url=None, command=(str(program),)),
        record("c", url=None, command=("./program",), cwd=str(tmp_path)),
        record("d", url=None, command=("program",), env={"PATH": str(tmp_path)}),
    ]
    assert list(agents.agents(facts(stored=stored))) == []


def test_one_agent_under_two_names(facts: Callable[..., Facts]) -> None:
    stored = [record("a"), record("b"), record("c", headers={"X": "1"}), record("d", enabled=False)]
    finding = only(agents.agents, facts(stored=stored))
    assert finding.problem.startswith("a, b are the same") and "remove b" in finding.fix


# --- the rest ------------------------------------------------------------------------------------


def test_grpc_that_is_wanted_and_missing(
    facts: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = facts(config=Config(server=Server(grpc_port=1)))
    monkeypatch.setattr(extras.optional, "installed", lambda: True)
    assert list(extras.extras(wanted)) == []
    monkeypatch.setattr(extras.optional, "installed", lambda: False)
    assert only(extras.extras, wanted).fix == "pip install 'agentgw[grpc]'"


def test_a_keyring_that_is_wanted_and_missing(
    facts: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = facts(stored=[record(headers={"X": "${keyring:a/b}"})])
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    assert only(extras.extras, wanted).fix == "pip install 'agentgw[keyring]'"
    monkeypatch.setattr(extras, "find_spec", lambda name: object())
    assert list(extras.extras(wanted)) == []


def test_traces_that_go_nowhere(facts: Callable[..., Facts]) -> None:
    wanted = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert "http/protobuf" in only(extras.extras, facts(environ=wanted)).problem
    assert list(extras.extras(facts(environ={"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}))) == []


def test_a_clock_that_was_never_set(facts: Callable[..., Facts]) -> None:
    assert "1970" in only(machine.machine, facts(now=60.0)).problem


def test_a_clock_that_went_back(facts: Callable[..., Facts]) -> None:
    found = facts()
    (found.home / FILE).write_bytes(b"")
    os.utime(found.home / FILE, (NOW + 86400, NOW + 86400))
    assert "written later" in only(machine.machine, found).problem


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_are_not_there(facts: Callable[..., Facts], name: str) -> None:
    assert name in only(machine.machine, facts(environ={name: "/no/such/place"})).problem


@pytest.mark.parametrize(
    ("issuer", "said"),
    [
        (Issuer(mistake="it can't be reached"), "it can't be reached"),
        (Issuer(clock=NOW + 61), "61 s apart"),
        (Issuer(clock=NOW - 3600), "3600 s apart"),
        (Issuer(clock=NOW + 59), ""),
        (Issuer(), ""),
    ],
)
def test_the_issuer_of_tokens(facts: Callable[..., Facts], issuer: Issuer, said: str) -> None:
    found = list(machine.machine(facts(config=Config(auth=Auth(issuer="https://a")), issuer=issuer)))
    assert [said in finding.problem for finding in found] == ([True] if said else [])
