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

KEPT = 64  # kinds of requests with one HTTP head
LONGEST = 2048  # bytes of a name and of ``_meta`` that are kept
_CALL, _LOOKED = b'"tools/call"', 256  # in so many bytes of a body
# What differs from call to call.
_VARYING = frozenset({"progressToken", *wire.META_TRACE})

_call = msgspec.json.Decoder(Call)
_meta = msgspec.json.Decoder(dict[str, Any] | None)


def read(said: Said, body: bytes) -> tuple[Kind, Call] | None:
    """What a POST with these headers asks for, if it is such a call; None: it is to be read in full."""
    kinds = said.kinds
    if kinds is None or body.find(_CALL, 0, _LOOKED) < 0:
        return None
    try:
        if not body.isascii():
            must_be_text(body)
        call = _call.decode(body)
    except UNREADABLE:
        return None
    params = call.params
    meta = b"" if params.meta is msgspec.UNSET else bytes(params.meta)
    kind = kinds.get((params.name, meta)) or _learnt(said, kinds, params.name, meta)
    return None if kind is None else (kind, call)


def _learnt(said: Said, kinds: dict[tuple[str, bytes], Kind], name: str, meta: bytes) -> Kind | None:
    """A kind that is kept from now on."""
    if len(kinds) >= KEPT or len(name) + len(meta) > LONGEST:
        return None
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
    kinds[name, meta] = kind
    return kind
