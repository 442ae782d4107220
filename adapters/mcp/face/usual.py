"""Tools' calls as nearly everybody sends them: of one that is like others before it only the id and the
arguments are read. What is looked at is decided by strict types, so whatever is unusual is read in full.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ....gateway.readable import UNREADABLE, must_be_text
from .. import wire
from ..wire import RpcError
from .checks import Said, check
from .kinds import Call, Head, Kind

KEPT = 256 * 1024  # bytes of what kinds are known by, after which they are learnt anew
LONGEST = 2048  # of what one is known by
_EACH = 256  # what one counts besides
_CALL, _LOOKED = b'"tools/call"', 256  # in so many bytes of a body
# What differs from call to call.
_VARYING = frozenset({"progressToken", *wire.META_TRACE})

_call = msgspec.json.Decoder(Call)
_meta = msgspec.json.Decoder(dict[str, Any] | None)


class Kinds:
    """Those of calls that came before, by what their HTTP headers say, name and ``_meta``."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Said, str, bytes], Kind] = {}
        self._size = 0

    def read(self, said: Said, body: bytes) -> tuple[Kind, Call] | None:
        """What a POST with these headers asks for, if it is such a call; None: it is to be read in full."""
        if not said.usual or body.find(_CALL, 0, _LOOKED) < 0:
            return None
        try:
            if not body.isascii():
                must_be_text(body)
            call = _call.decode(body)
        except UNREADABLE:
            return None
        params = call.params
        meta = b"" if params.meta is msgspec.UNSET else bytes(params.meta)
        kind = self._kept.get((said, params.name, meta)) or self._learnt(said, params.name, meta)
        return None if kind is None else (kind, call)

    def _learnt(self, said: Said, name: str, meta: bytes) -> Kind | None:
        """A kind that is kept from now on."""
        headers = (said.version, said.session, said.method, said.name)
        size = len(name) + len(meta) + sum(len(text) for text in headers if text is not None)
        kind = _kind(said, name, meta) if size <= LONGEST else None
        if kind is not None:
            if self._size > KEPT:
                self._kept.clear()
                self._size = 0
            self._size += size + _EACH
            self._kept[said, name, meta] = kind
        return kind


def _kind(said: Said, name: str, meta: bytes) -> Kind | None:
    try:
        fields = _meta.decode(meta) if meta else None
        if fields is not None and not _VARYING.isdisjoint(fields):
            return None
        head = Head(meta=None if fields is None else wire.KeptMeta(fields), name=name)
        kind = Kind(wire.TOOLS_CALL, head, "modern" if said.version in wire.MODERN_VERSIONS else "handshake")
        if kind.era == "modern":
            kind.revision = check(said, kind)
    except (*UNREADABLE, RpcError):
        return None
    return kind
