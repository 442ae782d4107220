"""Tokens of the process that has the store, lent to the others over a link."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from ..gateway.errors import GatewayError, NeedsAuth, UnknownAgent
from ..gateway.link import Handler, Link, Payload, Unpack, pack
from ..gateway.model import Record
from .bearer import Header, Issued
from .tokens import Bearers, Shared


class _Wanted(msgspec.Struct, frozen=True, array_like=True):
    """``record``: of any who shares the token; it need not be registered any more."""

    record: Record
    refused: Header | None


class _Lent(msgspec.Struct, frozen=True, array_like=True):
    """``issued`` None: it can't be had, and why (``operator``: for whoever runs the gateway)."""

    issued: Issued | None
    message: str = ""
    operator: str = ""


_wanted = Unpack(_Wanted)
_lent = Unpack(_Lent)


class LentTokens(Shared):
    """``Bearers`` in a process without the store."""

    def __init__(
        self, link: Link, changed: Callable[[str], None], clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(changed, clock)
        self._link = link

    async def obtain(self, record: Record, refused: Header | None) -> Issued:
        lent = _lent(await self._link.call("token", pack(_Wanted(record, refused))))
        if lent.issued is not None:
            return lent.issued
        error = NeedsAuth(lent.message)
        error.operator = lent.operator
        raise error


def lender(bearers: Bearers) -> Handler:
    """The link's handler ``token`` in the process that has the store."""

    async def token(payload: Payload) -> Payload:
        wanted = _wanted(payload)
        try:
            return pack(await _found(bearers, wanted))
        except GatewayError as e:
            return pack(_Lent(None, e.message, e.operator))

    return token


async def _found(bearers: Bearers, wanted: _Wanted) -> _Lent:
    bearer = bearers.bearer(wanted.record)
    if bearer is None:
        raise UnknownAgent(wanted.record.name)
    if wanted.refused is None:
        return _Lent(Issued(await bearer.get(), bearer.expires))
    bearer.doubts = 0  # whether the agent takes it is seen there
    new = await bearer.refused(wanted.refused)
    return _Lent(Issued(new or wanted.refused, bearer.expires))
