"""Secrets are references (see ``references``), kept as they were registered and resolved only when used.

A credential header (``Authorization``, ``Cookie``, …) must be a reference, but for an authentication scheme
or a cookie's name before it: ``Bearer ${TOKEN}``. Other headers and environment values may be literal;
listings show ``***`` for every literal all the same, because nobody can tell which of them is a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from ..gateway.children import worth_hiding
from ..gateway.errors import ConfigError, InvalidRequest
from ..gateway.model import OAuth, Record
from . import references
from .tokenendpoint import is_safe

# What may stand around references in clear: a scheme, a cookie's name, separators.
_SCHEME = re.compile(r"(?i:\s*(?:Bearer|Basic|Token|ApiKey|Api-Key|Digest|DPoP|Key)\s+)\Z")
_COOKIE = re.compile(r"[;\s]*[A-Za-z0-9_.-]{1,64}=\Z")
_SEPARATOR = re.compile(r"[\s;:,.=/-]*\Z")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

CREDENTIALS = frozenset(
    {
        "authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "apikey",
        "x-auth-token", "x-access-token", "x-goog-api-key", "x-amz-security-token", "x-functions-key",
        "ocp-apim-subscription-key", "x-auth-key", "x-token", "private-token", "x-csrf-token",
    }
)  # fmt: skip
# What a command gets of the gateway's own environment: enough to find programs, never its secrets.
INHERITED = (
    "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "APPDATA", "COMSPEC",
    "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "PATHEXT", "PROGRAMDATA", "PROGRAMFILES", "SYSTEMDRIVE",
    "SYSTEMROOT", "TEMP", "TMP", "USERNAME", "USERPROFILE", "WINDIR",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip


def resolve(mapping: Mapping[str, str], environ: Mapping[str, str], *, agent: str) -> dict[str, str]:
    """``mapping`` with every reference replaced. Raises ConfigError for one that stands for nothing."""
    return {key: references.resolved(key, value, environ, agent=agent) for key, value in mapping.items()}


def resolve_headers(record: Record, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """The record's headers ready to send, names in lower case. Raises ConfigError for a reference to
    nothing and for a value that no header can hold (a line break)."""
    resolved = resolve(record.headers, environ, agent=record.name)
    for key, value in resolved.items():
        if _CONTROL.search(value.strip()):
            raise ConfigError(f"{key} of agent {record.name} holds a line break or control character")
    return [(key.lower(), value.strip()) for key, value in resolved.items()]


def child_environment(record: Record, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the record's command: its own ``env``, resolved, over the few variables every
    program needs (``INHERITED``). Raises ConfigError for a reference to nothing."""
    inherited = {name: environ[name] for name in INHERITED if name in environ}
    return inherited | resolve(record.env, environ, agent=record.name)


def hidden(record: Record, environ: Mapping[str, str]) -> list[str]:
    """What of the record's ``env`` is not to be shown: its values, and what the references in them stand for.
    Raises ConfigError."""
    values = list(resolve(record.env, environ, agent=record.name).values())
    for key, value in record.env.items():
        found = (match[0] for match in references.in_text(value))
        values += [references.resolved(key, reference, environ, agent=record.name) for reference in found]
    return worth_hiding(values)


def redact(mapping: Mapping[str, str]) -> dict[str, str]:
    """``mapping`` for a listing: references stay, with a scheme or cookie name before them; every other
    literal is ``***``."""
    return {key: _redacted(value) for key, value in mapping.items()}


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises InvalidRequest, in one line that shows the right form, for a header that can't be sent and
    for a credential in clear."""
    for name, value in headers.items():
        if not _HEADER_NAME.match(name):
            raise InvalidRequest(f"{name!r} is not a header's name")
        if _CONTROL.search(value) or not value.isascii():
            raise InvalidRequest(f"the value of {name} holds characters that no header can hold")
        _check_references(name, value)
        if is_exposed(name, value):
            raise InvalidRequest(exposed(name))


def check_env(env: Mapping[str, str]) -> None:
    """Raises InvalidRequest for a name or value that no environment can hold."""
    for name, value in env.items():
        if not _ENV_NAME.match(name):
            raise InvalidRequest(f"{name!r} is not an environment variable's name")
        if "\0" in value:
            raise InvalidRequest(f"the value of {name} holds a NUL character")
        _check_references(name, value)


def _check_references(name: str, value: str) -> None:
    if references.miswritten(value):
        raise InvalidRequest(miswritten(name))


def miswritten(name: str) -> str:
    """The line that says how references are written."""
    return (
        f"the value of {name} holds a reference that is none: they are written ${{NAME}}, "
        "${file:/whole/path} and ${keyring:service/user}"
    )


def check_oauth(oauth: OAuth, headers: Mapping[str, str]) -> None:
    """Raises InvalidRequest for client credentials that can't be used, or hold their secret in clear."""
    if not oauth.client_id:
        raise InvalidRequest("OAuth needs a client id: --oauth-client-id ID")
    if not is_safe(oauth.token_url):
        raise InvalidRequest("the OAuth token URL must begin with https:// (or be on this machine)")
    _check_references("the OAuth client secret", oauth.client_secret)
    if not references.PATTERN.fullmatch(oauth.client_secret):
        raise InvalidRequest(
            "the OAuth client secret must be a reference, such as '${CLIENT_SECRET}' or "
            "'${file:/run/secrets/client}'"
        )
    if any(name.lower() == "authorization" for name in headers):
        raise InvalidRequest("an Authorization header and OAuth exclude each other")


def redact_oauth(oauth: OAuth) -> OAuth:
    """For a listing: the secret only where it is a reference."""
    return msgspec.structs.replace(oauth, client_secret=_redacted(oauth.client_secret))


def is_exposed(name: str, value: str) -> bool:
    """Whether a credential header holds its secret in clear instead of a reference."""
    return name.lower() in CREDENTIALS and ("***" in _redacted(value) or not references.PATTERN.search(value))


def exposed(name: str) -> str:
    """The line that says how to write such a header."""
    variable = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
    scheme = "Bearer " if variable == "AUTHORIZATION" else ""
    variable = "AGENT_TOKEN" if scheme else variable
    return (
        f"{name} holds a secret in clear: put it in an environment variable of the gateway and write "
        f"'{name}: {scheme}${{{variable}}}'"
    )


def _redacted(value: str) -> str:
    shown: list[str] = []
    end = 0
    for match in references.in_text(value):
        shown += [_clear(value[end : match.start()]), match[0]]
        end = match.end()
    if not shown:
        return "***"
    return "".join((*shown, _clear(value[end:])))


def _clear(piece: str) -> str:
    return piece if _harmless(piece) else "***"


def _harmless(piece: str) -> bool:
    return any(pattern.match(piece) for pattern in (_SEPARATOR, _SCHEME, _COOKIE))
