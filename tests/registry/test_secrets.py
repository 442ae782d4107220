"""References stay references until they are used, and no literal is ever shown."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from agentgw.gateway.errors import ConfigError, InvalidRequest, for_operator
from agentgw.gateway.model import Record
from agentgw.registry import secrets
from agentgw.registry.resolver import LOOK_AGAIN, Resolver

ENVIRON = {"TOKEN": "s3cret", "A": "1", "B": "2", "PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "no", "EMPTY": ""}


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ("Bearer ${TOKEN}", "Bearer s3cret"),
        ("${A}${B}", "12"),
        ("${EMPTY}", ""),
        ("plain", "plain"),
        ("$TOKEN ${} ${1X} $${A}", "$TOKEN ${} ${1X} $1"),
    ],
)
def test_references_are_resolved(value, resolved):
    assert secrets.resolve({"k": value}, ENVIRON, agent="a") == {"k": resolved}


def test_what_a_reference_resolves_to_is_not_resolved_again():
    assert secrets.resolve({"k": "${X}"}, {"X": "${TOKEN}", "TOKEN": "no"}, agent="a") == {"k": "${TOKEN}"}


def test_an_unset_variable_is_named_with_its_agent():
    with pytest.raises(ConfigError) as error:
        secrets.resolve({"Authorization": "Bearer ${MISSING}"}, ENVIRON, agent="research")
    assert "Authorization of agent research" in error.value.message
    assert "MISSING" in error.value.message


def record(**fields) -> Record:
    return Record(name="a", protocol="mcp", **fields)


def test_headers_are_ready_to_send():
    sent = secrets.resolve_headers(record(headers={"X-Key": " ${TOKEN} "}), ENVIRON)
    assert sent == [("x-key", "s3cret")]


def test_a_secret_with_a_line_break_is_not_sent():
    with pytest.raises(ConfigError) as error:
        secrets.resolve_headers(record(headers={"X-Key": "${TOKEN}"}), {"TOKEN": "one\r\nX-Evil: two"})
    assert "X-Key" in error.value.message and "Evil" not in error.value.message


def test_a_command_gets_its_own_environment_and_no_secrets_of_the_gateway():
    env = secrets.child_environment(record(env={"KEY": "${TOKEN}", "MODE": "fast"}), ENVIRON)
    assert env == {"PATH": "/bin", "KEY": "s3cret", "MODE": "fast"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("${TOKEN}", "${TOKEN}"),
        ("Bearer ${TOKEN}", "Bearer ${TOKEN}"),
        ("basic ${TOKEN}", "basic ${TOKEN}"),
        ("session=${S}; theme=${T}", "session=${S}; theme=${T}"),
        ("${A}:${B}", "${A}:${B}"),
        ("s3cret", "***"),
        ("Bearer s3cret", "***"),
        ("", "***"),
        ("s3cret${A}", "***${A}"),
        ("Bearer s3cret ${A}", "***${A}"),
        ("${A}s3cret", "${A}***"),
        ("Bearer ${file:/run/secrets/token}", "Bearer ${file:/run/secrets/token}"),
        ("${keyring:agentgw/research}", "${keyring:agentgw/research}"),
        ("${file:relative}", "***"),
    ],
)
def test_listings_show_references_and_no_literal(value, shown):
    assert secrets.redact({"k": value}) == {"k": shown}


@pytest.mark.parametrize(
    "name", ["Authorization", "proxy-authorization", "COOKIE", "X-API-Key", "Private-Token"]
)
@pytest.mark.parametrize("value", ["Bearer s3cret", "s3cret", "s3cret${A}", "Bearer"])
def test_a_credential_in_clear_is_refused_and_the_form_shown(name, value):
    with pytest.raises(InvalidRequest) as error:
        secrets.check_headers({name: value})
    assert name in error.value.message and "${" in error.value.message
    assert "s3cret" not in error.value.message and "\n" not in error.value.message


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer ${TOKEN}"},
        {"Cookie": "session=${S}"},
        {"X-API-Key": "${KEY}"},
        {"X-Tenant": "acme"},
        {"Accept-Language": "de, en;q=0.5"},
    ],
)
def test_references_and_other_headers_are_fine(headers):
    secrets.check_headers(headers)


@pytest.mark.parametrize(
    "headers", [{"Bad Name": "x"}, {"": "x"}, {"X": "a\r\nb"}, {"X": "a\0"}, {"X:": "b"}, {"X": "ü"}]
)
def test_a_header_that_cant_be_sent_is_refused(headers):
    with pytest.raises(InvalidRequest):
        secrets.check_headers(headers)


@pytest.mark.parametrize("env", [{"A-B": "x"}, {"1A": "x"}, {"A=B": "x"}, {"A": "x\0"}])
def test_an_environment_that_cant_be_is_refused(env):
    with pytest.raises(InvalidRequest):
        secrets.check_env(env)


# --- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "value"),
    [("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("s3cret", "s3cret"), ("a\n\n", "a\n")],
)
def test_a_file_s_content_without_the_line_break_at_its_end(tmp_path: Path, content: str, value: str):
    (tmp_path / "token").write_bytes(content.encode())
    found = secrets.resolve({"k": f"Bearer ${{file:{tmp_path}/token}}"}, {}, agent="a")
    assert found == {"k": f"Bearer {value}"}


def test_a_file_s_content_is_not_resolved_again(tmp_path: Path):
    (tmp_path / "token").write_text("${A}")
    assert secrets.resolve({"k": f"${{file:{tmp_path}/token}}"}, ENVIRON, agent="a") == {"k": "${A}"}


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "does not exist"), (b"\xff\xfe", "not UTF-8 text"), (b"x" * 70_000, "larger than")],
)
def test_a_file_that_cant_be_used_is_named_to_the_operator_alone(tmp_path: Path, content, why):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        secrets.resolve({"Authorization": f"Bearer ${{file:{path}}}"}, ENVIRON, agent="research")
    told = for_operator(error.value)
    assert f"${{file:{path}}}" in told and why in told and "research" in told
    assert str(path) not in error.value.message and "Authorization of agent research" in error.value.message
    assert "xxxx" not in told + error.value.message + error.value.detail


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_headers_are_resolved_once_and_again_when_a_file_changes(tmp_path: Path):
    path, clock = tmp_path / "token", Clock()
    path.write_text("one\n")
    agent = record(headers={"Authorization": f"Bearer ${{file:{path}}}", "X-Key": "${TOKEN}"})
    resolver = Resolver(ENVIRON, clock)
    first = resolver.headers(agent)
    assert first == [("authorization", "Bearer one"), ("x-key", "s3cret")]
    clock.now += LOOK_AGAIN
    assert resolver.headers(agent) is first

    path.with_name("new").write_text("two!")
    path.with_name("new").replace(path)  # as secrets are rotated: at once, not bit by bit
    assert resolver.headers(agent) is first  # not looked at for every call
    clock.now += LOOK_AGAIN
    assert resolver.headers(agent) == [("authorization", "Bearer two!"), ("x-key", "s3cret")]

    path.unlink()
    clock.now += LOOK_AGAIN
    for _ in range(2):
        with pytest.raises(ConfigError, match="needs a secret that can't be read"):
            resolver.headers(agent)
    path.write_text("three")
    assert resolver.headers(agent)[0] == ("authorization", "Bearer three")


def test_an_agent_registered_anew_has_its_secrets_read_anew():
    environ = {"TOKEN": "one"}
    resolver = Resolver(environ)
    before = record(headers={"X-Key": "${TOKEN}"})
    assert resolver.headers(before) == [("x-key", "one")]
    environ["TOKEN"] = "two"
    assert resolver.headers(before) == [("x-key", "one")]
    assert resolver.headers(record(headers={"X-Key": "${TOKEN}"})) == [("x-key", "two")]


# --- the keyring -------------------------------------------------------------------------------


def test_the_keyring_holds_secrets(monkeypatch: pytest.MonkeyPatch):
    known = {("agentgw", "research/v2"): "s3cret"}
    fake = SimpleNamespace(get_password=lambda service, user: known.get((service, user)))
    monkeypatch.setitem(sys.modules, "keyring", fake)
    assert secrets.resolve({"k": "${keyring:agentgw/research/v2}"}, {}, agent="a") == {"k": "s3cret"}
    with pytest.raises(ConfigError) as error:
        secrets.resolve({"k": "${keyring:agentgw/other}"}, {}, agent="a")
    assert "${keyring:agentgw/other}, which is not in the keyring" in for_operator(error.value)


def test_a_keyring_that_fails_says_nothing_of_its_own(monkeypatch: pytest.MonkeyPatch):
    def locked(service: str, user: str) -> str:
        raise RuntimeError("s3cret is locked")

    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(get_password=locked))
    with pytest.raises(ConfigError) as error:
        secrets.resolve({"k": "${keyring:agentgw/x}"}, {}, agent="a")
    assert "s3cret" not in for_operator(error.value) + error.value.message + error.value.detail


def test_without_a_keyring_the_way_to_one_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigError) as error:
        secrets.resolve({"k": "${keyring:agentgw/x}"}, {}, agent="a")
    assert "agentgw[keyring]" in for_operator(error.value)


@pytest.mark.parametrize("value", ["${file:token}", "Bearer ${FILE:/x}", "${keyring:only}", "${file:}"])
def test_a_miswritten_reference_is_refused(value: str):
    for check in (secrets.check_headers, secrets.check_env):
        with pytest.raises(InvalidRequest) as error:
            check({"X_Key": value})
        assert "${file:/whole/path}" in error.value.message
