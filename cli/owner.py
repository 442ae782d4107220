"""The data directory and its owner file: how commands find the running gateway.

``owner.json`` (mode 0600) holds the process id, loopback URL and owner token of the gateway that owns the
directory. The token is new at each start and has all rights.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import msgspec

from ..gateway.errors import ConfigError

FILE = "owner.json"


class Owner(msgspec.Struct, frozen=True):
    """The gateway that owns a data directory."""

    pid: int
    url: str
    token: str


def home() -> Path:
    """The data directory: ``AGENTGW_HOME``, else the platform's user data directory. May not exist yet."""
    configured = os.environ.get("AGENTGW_HOME")
    if configured:
        return Path(configured).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("agentgw", appauthor=False)


def write(directory: Path, *, url: str, token: str) -> None:
    """Make this process the owner. The file is readable by this user only, and whole or not there. Raises
    ConfigError."""
    owner = Owner(os.getpid(), url, token)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(directory, msgspec.json.encode(owner) + b"\n")
    except OSError as e:
        raise ConfigError(f"can't write {directory / FILE}: {e.strerror or e}") from None


def _write(directory: Path, content: bytes) -> None:
    # mkstemp makes the file with mode 0600.
    fd, name = tempfile.mkstemp(prefix=f".{FILE}.", dir=directory)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
        os.replace(name, directory / FILE)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def read(directory: Path) -> Owner | None:
    """The owner file's content; None where there is none or it is not readable as one."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=Owner)
    except (OSError, msgspec.DecodeError):
        return None


def remove(directory: Path) -> None:
    """Remove this process's file at stop; another's is left alone."""
    owner = read(directory)
    if owner is not None and owner.pid == os.getpid():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(directory / FILE)


def alive(owner: Owner) -> bool:
    """Whether the owner's process exists. (Windows offers no harmless way to ask: taken as alive.)"""
    if os.name == "nt":
        return True
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
