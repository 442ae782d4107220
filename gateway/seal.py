"""State that passes through clients, or lies in the store, so that only this gateway can read or make it.

Fernet (authenticated encryption) with a ring of keys: the first seals, all of them open, a former one until
the time that stands beside it. ``rotate`` puts a new key in front; what lies in the store is then sealed anew
(``resealed``), what is with clients opens as long as the former key is kept.
"""

from __future__ import annotations

import base64
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .errors import ConfigError, InvalidRequest

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

FILE = "seal.keys"
MARK = b"gAAAAA"  # what everything sealed begins with
LOOK_AGAIN = 1.0  # seconds: how late a ring that another process has rotated is read again


class Key(msgspec.Struct, frozen=True):
    """A key of the ring: URL-safe base64 of 32 bytes; until when it opens (seconds since the epoch), None for
    the one that seals."""

    secret: str
    until: float | None = None


class Sealer:
    """``home``: the data directory whose keys to use; None: a key of this process alone. ``clock``: seconds
    since the epoch."""

    def __init__(self, home: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._path = None if home is None else home / FILE
        self._clock = clock
        self._keys = [Key(_new_secret())]
        self._opened: MultiFernet | None = None
        self._stamp: tuple[int, int] | None = None
        self._looked = 0.0

    def open(self, *, make: bool = True) -> None:
        """Read the keys (one a line, newest first, a former one with the end of its time; mode 0600), made at
        the first time. Whoever calls has the directory's lock, or is a process of who has, or does not
        ``make`` any: then there is one of this process alone. Raises ConfigError when they can't be used."""
        path = self._path
        if path is None:
            return
        try:
            if not path.exists():
                if not make:
                    return
                _write(path, self._keys[0].secret + "\n")  # whole or not there, whatever happens
            self._read(path)
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"the keys in {path} can't be used: {e}") from e

    def _read(self, path: Path) -> None:
        found = path.stat()
        lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
        try:
            keys = [_key(words) for words in lines]
        except ValueError:
            keys = []
        if not keys or keys[0].until is not None:
            raise ConfigError(
                f"{path} must hold keys, 32 bytes of URL-safe base64 each on a line of its own; "
                "put back a copy, or move it away to begin with a new one, which opens nothing sealed before"
            )
        self._keys, self._opened = keys, None
        self._stamp = found.st_mtime_ns, found.st_ino

    # --- sealing -------------------------------------------------------------------------------

    def seal(self, data: bytes, purpose: str) -> str:
        """``data`` as a URL-safe text that only ``unseal`` with the same ``purpose`` opens."""
        self._look()
        return self._opener().encrypt(purpose.encode() + b"\0" + data).decode()

    def unseal(self, text: str, purpose: str, *, max_age: float | None = None) -> bytes:
        """What was sealed. ``max_age`` in seconds since then. Raises InvalidRequest for anything that was
        not sealed here for this purpose, or is too old."""
        from cryptography.fernet import InvalidToken

        ttl = None if max_age is None else int(max_age)
        self._look()
        try:
            try:
                opened = self._opener().decrypt(text.encode(), ttl=ttl)
            except InvalidToken:
                if not self._look(at_once=True):
                    raise
                opened = self._opener().decrypt(text.encode(), ttl=ttl)
        except (InvalidToken, UnicodeEncodeError):
            raise InvalidRequest("the sealed state is not this gateway's, or has expired") from None
        found, _, data = opened.partition(b"\0")
        if found != purpose.encode():
            raise InvalidRequest("the sealed state is not this gateway's, or has expired")
        return data

    def resealed(self, text: bytes) -> bytes | None:
        """The same, sealed with the newest key and as old as it was; None for what is not sealed here."""
        from cryptography.fernet import InvalidToken

        try:
            return self._opener().rotate(text)
        except InvalidToken:
            return None

    # --- the ring ------------------------------------------------------------------------------

    def ring(self) -> list[Key]:
        """Those that open, newest first."""
        self._look()
        return self._valid()

    def rotate(self, keep: float) -> None:
        """Seal with a new key from now on; the one that sealed so far opens for ``keep`` seconds more.
        Durable when it returns. Whoever calls has the directory's lock. Raises ConfigError."""
        self._look(at_once=True)
        self._write([Key(_new_secret()), *self._former(self._valid(), self._clock() + keep)])

    def shorten(self, keep: float) -> None:
        """No former key opens for longer than ``keep`` seconds from now. As ``rotate`` otherwise."""
        self._look(at_once=True)
        most = self._clock() + keep
        first, *rest = self._valid()
        cut = [Key(key.secret, min(key.until or most, most)) for key in rest]
        self._write([first, *self._former(cut, most)])

    def _former(self, keys: list[Key], until: float) -> list[Key]:
        """Keys that open until then, or until their own time; those whose time is over are left out."""
        now = self._clock()
        ends = [(key.secret, until if key.until is None else key.until) for key in keys]
        return [Key(secret, end) for secret, end in ends if end > now]

    def _write(self, keys: list[Key]) -> None:
        if self._path is not None:
            try:
                _write(self._path, "".join(f"{_line(key)}\n" for key in keys))
                self._read(self._path)
            except OSError as e:
                raise ConfigError(f"the keys in {self._path} can't be written: {e.strerror or e}") from e
        self._keys, self._opened = keys, None

    def _valid(self) -> list[Key]:
        now = self._clock()
        return [key for key in self._keys if key.until is None or key.until > now]

    def _opener(self) -> MultiFernet:
        if self._opened is None:
            from cryptography.fernet import Fernet, MultiFernet  # only who seals pays for the import

            self._opened = MultiFernet([Fernet(key.secret) for key in self._valid()])
        return self._opened

    def _look(self, *, at_once: bool = False) -> bool:
        """Read the file again if it has changed, and let keys go whose time is over; looked after once a
        second, or ``at_once``. Whether it had changed."""
        now = self._clock()
        if not at_once and 0 <= now - self._looked < LOOK_AGAIN:
            return False
        self._looked = now
        if len(self._valid()) != len(self._keys):
            self._keys, self._opened = self._valid(), None
        if self._path is None or self._stamp is None:
            return False
        try:
            found = self._path.stat()
            if (found.st_mtime_ns, found.st_ino) == self._stamp:
                return False
            self._read(self._path)
        except (OSError, UnicodeDecodeError, ConfigError):
            return False  # what was read before still holds
        return True


def _key(words: list[str]) -> Key:
    """A line of the file. Raises ValueError."""
    secret, *until = words
    if len(until) > 1 or len(base64.urlsafe_b64decode(secret)) != 32:
        raise ValueError(secret)
    return Key(secret, datetime.fromisoformat(until[0]).timestamp() if until else None)


def _line(key: Key) -> str:
    return key.secret if key.until is None else f"{key.secret} {stamp(key.until)}"


def stamp(seconds: float) -> str:
    """UTC ISO 8601 in seconds, ending in Z."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _write(path: Path, text: str) -> None:
    """Replace a private file: it is whole, old or new, whatever happens."""
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(fd, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _new_secret() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()
