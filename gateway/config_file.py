"""Reading the configuration: a TOML file, then ``AGENTGW_SECTION__KEY`` variables over it.

Durations are text like ``"250ms"``, ``"5s"``, ``"1h30m"`` or a number of seconds; sizes text like ``"64KiB"``
or ``"10MB"``, or a number of bytes; rates text like ``"100/s"`` or ``"10/m"``, or a number for each second.
What is not known is an error that names the nearest thing that is.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional
from urllib.parse import SplitResult, urlsplit

import msgspec

from . import names
from .config import AgentEntry, Config, Duration, OAuthEntry, Rate, Size
from .durations import duration, rate
from .errors import ConfigError

PREFIX = "AGENTGW_"
_DURATIONS = (Duration, Optional[Duration])  # noqa: UP045 - Annotated has no | in Python 3.11
_SIZES = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30,
    "K": 2**10, "M": 2**20, "G": 2**30,
}  # fmt: skip
# Whoever knows what checks a signature must not be able to make one: nothing with a shared secret.
_SIGNATURES = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def load(path: Path | None, environ: Mapping[str, str]) -> tuple[Config, list[str]]:
    """The configuration, and warnings for people (one line each).

    ``path`` None: the file that ``AGENTGW_CONFIG`` names, else defaults alone. Raises ConfigError, with the
    file or variable and the key in one line.
    """
    if path is None and environ.get("AGENTGW_CONFIG"):
        path = Path(environ["AGENTGW_CONFIG"])
    tree: dict[str, Any] = {}
    where = "the configuration"
    if path is not None:
        where = str(path)
        tree = _converted(Config, _read(path), where, "")
    warnings: list[str] = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and "__" in name:
            _override(tree, name, environ[name], warnings)
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as e:
        raise ConfigError(f"{where}: {_located(str(e))}") from None
    _check(config, where)
    return config, warnings


def setting_paths(struct: Any = Config, prefix: str = "") -> Iterator[str]:
    """Every setting's path (``limits.idle_timeout``), those of agents as ``agents.NAME.url``."""
    for key, kind in _fields(struct).items():
        if kind == dict[str, AgentEntry]:
            yield from setting_paths(AgentEntry, f"{prefix}{key}.NAME.")
        elif _is_struct(kind):
            yield from setting_paths(kind, f"{prefix}{key}.")
        else:
            yield prefix + key


# --- the file --------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as e:
        raise ConfigError(f"can't read the configuration {path}: {e.strerror or e}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} is not valid TOML: {e}") from None


def _converted(kind: Any, value: Any, where: str, path: str) -> Any:
    """``value`` with durations and sizes as numbers. Raises ConfigError for unknown keys."""
    agents = kind == dict[str, AgentEntry]
    if not agents and not _is_struct(kind):
        return _scalar(kind, value, where, path)
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: {path} must be a table: [{path}]")
    table: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
    fields = dict.fromkeys(table, AgentEntry) if agents else _fields(kind)
    out: dict[str, Any] = {}
    for key, inner in table.items():
        at = f"{path}.{key}" if path else key
        if key not in fields:
            known = list(fields) if isinstance(inner, dict) and not path else list(setting_paths())
            raise ConfigError(f"{where}: unknown key {at}{_nearest(at, known)}")
        out[key] = _converted(fields[key], inner, where, at)
    return out


def _scalar(kind: Any, value: Any, where: str, path: str) -> Any:
    if kind in _DURATIONS and isinstance(value, str):
        seconds = duration(value)
        if seconds is None:
            raise ConfigError(f'{where}: {path} = "{value}" is not a duration like "5s", "5m" or "1h"')
        return seconds
    if kind == Size and isinstance(value, str):
        size = _size(value)
        if size is None:
            raise ConfigError(f'{where}: {path} = "{value}" is not a size like "64KiB" or "10MB"')
        return size
    if kind == Rate and isinstance(value, str):
        per_second = rate(value)
        if per_second is None:
            raise ConfigError(f'{where}: {path} = "{value}" is not a rate like "100/s", "10/m" or "0"')
        return per_second
    return value


def _size(text: str) -> int | None:
    match = _SIZE.fullmatch(text.strip())
    factor = _SIZES.get(match[2].upper()) if match else None
    return None if match is None or factor is None else int(float(match[1]) * factor)


# --- the environment -------------------------------------------------------------------------


def _override(tree: dict[str, Any], name: str, text: str, warnings: list[str]) -> None:
    """Set the key that a variable names; an unknown one adds a warning."""
    path = [piece.lower() for piece in name.removeprefix(PREFIX).split("__")]
    kind: Any = Config
    for at, piece in enumerate(path):
        if kind == dict[str, AgentEntry]:
            path[at] = piece = piece.replace("_", "-")  # names of agents hold no underscore
            kind = AgentEntry if names.is_valid(piece) else None
        else:
            kind = _fields(kind).get(piece) if _is_struct(kind) else None
        if kind is None:
            break
    if kind is None or _is_struct(kind) or kind == dict[str, AgentEntry]:
        known = [PREFIX + key.upper().replace(".", "__") for key in setting_paths()]
        warnings.append(f"the environment variable {name} is no setting{_nearest(name, known)}")
        return
    value = _scalar(kind, text if _is_text(kind) else _parsed(text), name, ".".join(path))
    _validate(kind, value, name)
    for piece in path[:-1]:
        tree = tree.setdefault(piece, {})
    tree[path[-1]] = value


def _is_text(kind: Any) -> bool:
    return kind in (str, *_DURATIONS, Size, Rate)


def _parsed(text: str) -> Any:
    """A variable's value as JSON or TOML; the text itself where it is neither."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        pass
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _validate(kind: Any, value: Any, name: str) -> None:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as e:
        hint = ', e.g. \'["one", "two"]\'' if kind == tuple[str, ...] else ""
        raise ConfigError(f"the environment variable {name} can't be used: {e}{hint}") from None


# --- what the types can't say ----------------------------------------------------------------


def _check(config: Config, where: str) -> None:
    for network in config.outbound.allow:
        try:
            ipaddress.ip_network(network)
        except ValueError as e:
            raise ConfigError(f"{where}: outbound.allow: {e}") from None
    url = config.server.public_url
    if url and not re.match(r"https?://[^/]", url):
        raise ConfigError(f'{where}: server.public_url = "{url}" must begin with http:// or https://')
    _check_auth(config, where)
    for name, entry in config.agents.items():
        at = f"{where}: agents.{name}"
        if not names.is_valid(name):
            raise ConfigError(f"{where}: {names.complaint(name)}")
        if bool(entry.url) == bool(entry.command):
            raise ConfigError(f"{at} needs either url or command")
        if entry.url and not re.match(r"https?://[^/]", entry.url):
            raise ConfigError(f'{at}.url = "{entry.url}" must begin with http:// or https://')
        if entry.command and (entry.headers or entry.remote):
            raise ConfigError(f"{at}: headers and remote go with url, not with command")
        if entry.url and (entry.env or entry.cwd):
            raise ConfigError(f"{at}: env and cwd go with command, not with url")
        if entry.oauth != OAuthEntry():
            _check_oauth(entry, f"{at}.oauth")


def _check_oauth(entry: AgentEntry, at: str) -> None:
    missing = [k for k in ("token_url", "client_id", "client_secret") if not getattr(entry.oauth, k)]
    if missing:
        raise ConfigError(f"{at} needs {', '.join(missing)}")
    if entry.command:
        raise ConfigError(f"{at} goes with url, not with command")
    if any(name.lower() == "authorization" for name in entry.headers):
        raise ConfigError(f"{at} and an Authorization header exclude each other")
    if not re.match(r"https://[^/]|http://(localhost|127\.0\.0\.1|\[::1\])([:/]|$)", entry.oauth.token_url):
        raise ConfigError(f"{at}.token_url must begin with https:// (or be on this machine)")


def _check_auth(config: Config, where: str) -> None:
    auth = config.auth
    for key, url in (("issuer", auth.issuer), ("jwks_url", auth.jwks_url)):
        parts = urlsplit(url)
        if url and not (parts.hostname and (parts.scheme == "https" or _is_here(parts))):
            raise ConfigError(f'{where}: auth.{key} = "{url}" must be an https:// URL')
    for name in auth.algorithms:
        if name not in _SIGNATURES:
            raise ConfigError(f"{where}: auth.algorithms: {name} is none of {', '.join(_SIGNATURES)}")
    for scope, agents in auth.scopes.items():
        for agent in agents:
            if agent != "*" and not names.is_valid(agent):
                raise ConfigError(f"{where}: auth.scopes.{scope}: {names.complaint(agent)}")


def _is_here(parts: SplitResult) -> bool:
    return parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")


# --- helpers ---------------------------------------------------------------------------------


def _fields(struct: Any) -> dict[str, Any]:
    return typing.get_type_hints(struct, include_extras=True)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _nearest(name: str, known: list[str]) -> str:
    """`` (did you mean …?)``: the known key that looks most like ``name``, first of all one that ends alike
    (the right key in the wrong place)."""
    agent = re.match(r"agents\.([^.]+)\.|AGENTGW_AGENTS__([A-Z0-9_]+?)__", name)
    if agent:
        known = [key.replace("NAME", agent[1] or agent[2]) for key in known]
    tail = re.split(r"\.|__", name)[-1]
    alike = [key for key in known if re.split(r"\.|__", key)[-1] == tail]
    near = difflib.get_close_matches(name, alike or known, 1, cutoff=0)[0]
    return f" (did you mean {near}?)"


def _located(message: str) -> str:
    """msgspec's message with the key first: ``server.port: Expected `int`, got `str```."""
    match = re.fullmatch(r"(.*) - at `\$\.(.*)`", message)
    return f"{match[2]}: {match[1]}" if match else message
