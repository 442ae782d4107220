"""References stay references until they are used, and no literal is ever shown."""

import pytest

from agentgw.gateway.errors import ConfigError, InvalidRequest
from agentgw.gateway.model import Record
from agentgw.registry import secrets

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
