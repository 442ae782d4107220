"""References to secrets, and what they stand for now.

``${NAME}`` is a variable of the gateway's environment, ``${file:/path}`` what a file holds (without the line
break at its end), ``${keyring:service/user}`` an entry of the system's keyring (needs the extra
``agentgw[keyring]``). What a reference resolves to is not resolved again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..gateway.errors import ConfigError

PATTERN = re.compile(
    r"\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|file:(?P<path>(?:/|[A-Za-z]:[\\/])[^{}\x00-\x1f]+)"
    r"|keyring:(?P<service>[^{}/\x00-\x1f]+)/(?P<user>[^{}\x00-\x1f]+))\}"
)
# What was meant as a reference and is none would go out as it stands.
_MISWRITTEN = re.compile(r"\$\{(?i:file|keyring):")
MOST = 64 * 1024  # bytes of a secret in a file

Stamp = tuple[int, int, int] | None


def in_text(text: str) -> Iterator[re.Match[str]]:
    """The references in ``text``, in order."""
    return PATTERN.finditer(text)


def miswritten(text: str) -> bool:
    """Whether ``text`` holds what looks like a reference to a file or the keyring, and is none."""
    return _MISWRITTEN.search(PATTERN.sub("", text)) is not None


def files_in(values: Mapping[str, str]) -> tuple[str, ...]:
    """The files that the values refer to."""
    paths = (match["path"] for value in values.values() for match in in_text(value))
    return tuple(dict.fromkeys(path for path in paths if path))


def stamp(path: str) -> Stamp:
    """Changes when the file is written or replaced; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def resolved(key: str, value: str, environ: Mapping[str, str], *, agent: str = "") -> str:
    """``value`` with every reference replaced. Raises ConfigError for one that stands for nothing: its
    ``operator`` names the reference, the key that needs it and the agent, where it is one's alone; never with
    a value in it."""
    needs = f"{key} of agent {agent} needs" if agent else f"{key} needs"
    of: dict[str, str] = {"agent": agent} if agent else {}

    def value_of(match: re.Match[str]) -> str:
        if match["name"]:
            return _variable(match["name"], environ, needs, of)
        try:
            return _file(match["path"]) if match["path"] else _keyring(match["service"], match["user"])
        except _Missing as e:
            raise ConfigError(
                f"{needs} a secret that can't be read",
                data={**of, "reference": "file" if match["path"] else "keyring"},
                operator=f"{needs} {match[0]}, {e}",
            ) from None

    return PATTERN.sub(value_of, value)


class _Missing(Exception):
    """Why there is no value, as the end of a sentence."""


def _variable(name: str, environ: Mapping[str, str], needs: str, of: Mapping[str, str]) -> str:
    try:
        return environ[name]
    except KeyError:
        raise ConfigError(
            f"{needs} the environment variable {name}, which is not set", data={**of, "variable": name}
        ) from None


def _file(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(MOST + 1)
        text = content.decode()
    except FileNotFoundError:
        raise _Missing("which does not exist") from None
    except OSError as e:
        raise _Missing(f"which can't be read ({e.strerror})") from None
    except UnicodeDecodeError:
        raise _Missing("which is not UTF-8 text") from None
    if len(content) > MOST:
        raise _Missing(f"which is larger than {MOST} bytes")
    return text.removesuffix("\n").removesuffix("\r")


def _keyring(service: str, user: str) -> str:
    try:
        import keyring as library  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise _Missing("but the keyring is not installed: pip install 'agentgw[keyring]'") from None
    keyring: Any = library
    try:
        found: str | None = keyring.get_password(service, user)
    except Exception as e:  # whatever the system's own keyring raises; its words may hold anything
        raise _Missing(f"but the keyring can't be read ({type(e).__name__})") from None
    if found is None:
        raise _Missing("which is not in the keyring")
    return found
