"""State that passes through clients, or lies in the store, so that only this gateway can read or make it.

Fernet (authenticated encryption) with a ring of keys: the first seals, all of them open. To rotate, put a new
key in front and take the old one out when nothing that it sealed is wanted any more.
"""

from __future__ import annotations

import base64
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigError, InvalidRequest

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

FILE = "seal.keys"


class Sealer:
    """``home``: the data directory whose keys to use; None: a key of this process alone."""

    def __init__(self, home: Path | None = None) -> None:
        self._path = None if home is None else home / FILE
        self._keys = [_new_key()]

    def open(self) -> None:
        """Read the keys (URL-safe base64 of 32 bytes, one a line, newest first; mode 0600), made at the
        first time. Whoever calls has the directory's lock. Raises ConfigError when they can't be used."""
        path = self._path
        if path is None:
            return
        try:
            if not path.exists():
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    file.write(self._keys[0] + "\n")
            self._keys = [line.strip() for line in path.read_text().splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"the keys in {path} can't be used: {e}") from e
        if not self._keys or not all(_fits(key) for key in self._keys):
            raise ConfigError(f"{path} must hold keys, 32 bytes of URL-safe base64 each on a line of its own")

    @cached_property
    def _ring(self) -> MultiFernet:
        from cryptography.fernet import Fernet, MultiFernet  # only who seals pays for the import

        return MultiFernet([Fernet(key) for key in self._keys])

    def seal(self, data: bytes, purpose: str) -> str:
        """``data`` as a URL-safe text that only ``unseal`` with the same ``purpose`` opens."""
        return self._ring.encrypt(purpose.encode() + b"\0" + data).decode()

    def unseal(self, text: str, purpose: str, *, max_age: float | None = None) -> bytes:
        """What was sealed. ``max_age`` in seconds since then. Raises InvalidRequest for anything that was
        not sealed here for this purpose, or is too old."""
        from cryptography.fernet import InvalidToken

        try:
            opened = self._ring.decrypt(text.encode(), ttl=None if max_age is None else int(max_age))
        except (InvalidToken, UnicodeEncodeError):
            raise InvalidRequest("the sealed state is not this gateway's, or has expired") from None
        found, _, data = opened.partition(b"\0")
        if found != purpose.encode():
            raise InvalidRequest("the sealed state is not this gateway's, or has expired")
        return data


def _new_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def _fits(key: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(key)) == 32
    except ValueError:
        return False
