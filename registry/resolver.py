"""Headers of agents, resolved once and kept, so that a call costs no more than a look at what is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ..gateway.model import Record
from . import references, secrets
from .references import Stamp

Headers = list[tuple[str, str]]
LOOK_AGAIN = 1.0  # seconds: how late a file that has changed is read again


class _Kept:
    """The headers of one record."""

    __slots__ = ("headers", "looked", "record", "stamps")

    def __init__(self, record: Record, headers: Headers, looked: float, stamps: Mapping[str, Stamp]) -> None:
        self.record = record
        self.headers = headers
        self.looked = looked
        self.stamps = stamps


class Resolver:
    """Resolves references from ``environ``, files and the keyring. ``clock`` in seconds.

    Variables and the keyring are read once per record: an agent that is registered anew, or disabled and
    enabled, has them read again. Files are read again when they change.
    """

    def __init__(self, environ: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self._environ = environ
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    def headers(self, record: Record) -> Headers:
        """The record's headers ready to send: the very same list as long as nothing has changed, not to be
        altered. Raises ConfigError."""
        if not record.headers:
            return _NONE
        kept = self._kept.get(record.name)
        if kept is not None and kept.record is record and (not kept.stamps or self._still(kept)):
            return kept.headers
        stamps = {path: references.stamp(path) for path in references.files_in(record.headers)}
        headers = secrets.resolve_headers(record, self._environ)
        if kept is not None and kept.record is record and kept.headers == headers:
            headers = kept.headers
        self._kept[record.name] = _Kept(record, headers, self._clock(), stamps)
        return headers

    def _still(self, kept: _Kept) -> bool:
        now = self._clock()
        if now - kept.looked < LOOK_AGAIN:
            return True
        same = all(references.stamp(path) == seen for path, seen in kept.stamps.items())
        if same:
            kept.looked = now
        return same

    def environment(self, record: Record) -> dict[str, str]:
        """The environment of the record's command, resolved now. Raises ConfigError."""
        return secrets.child_environment(record, self._environ)

    def hidden(self, record: Record) -> list[str]:
        """What of that environment is not to be shown. Raises ConfigError."""
        return secrets.hidden(record, self._environ)


_NONE: Headers = []
