"""A Run that is too large to be held: it passes as it comes, once what is changed in it is known."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import msgspec
from msgspec import Raw

from ....gateway.documents import Passing, Path, Shape
from ....gateway.errors import BadUpstream
from ....gateway.limits import CallLimits
from ....gateway.readable import UNREADABLE
from ....gateway.transport import Stream
from ..wire import SETTLED, RunHead
from .exchange import Exchange, run_header
from .passage import Passage

HELD = 1024 * 1024  # bytes of an answer that is read as a whole where its length is known
_HEAD: Shape = dict.fromkeys(field.encode() for field in RunHead.__struct_fields__)

_encode = msgspec.json.Encoder().encode
_run = msgspec.json.Decoder(RunHead)


async def passes(answer: Stream, x: Exchange, passage: Passage, limits: CallLimits) -> bool:
    """Pass on a Run that has not come as a whole, if its length is not known to be small, and if among its
    first bytes stands what a relay looks at; whether it did. One that has failed does not pass, for the words
    of a crash may stand at its end."""
    length = answer.header("content-length") or ""
    if answer.complete or answer.status != 200 or (length.isdecimal() and int(length) <= HELD):
        return False
    begun = await answer.beginning()
    found = None if begun is None else _members(begun)
    if found is None or not passage.knows(found):
        return False
    x.span.own["agentgw.passed_in_pieces"] = True
    changes = passage.changed(_run.decode(_encode(found)))
    changed = {name.encode(): _encode(value) for name, value in changes.items()}
    async with aclosing(_pieces(answer, passage.agent, limits, found, changed)) as pieces:
        await x.request.pieces(pieces, headers=run_header(passage.run_id))
    return True


async def _pieces(
    answer: Stream,
    agent: str,
    limits: CallLimits,
    found: Mapping[str, Raw],
    changed: Mapping[bytes, bytes],
) -> AsyncGenerator[bytes]:
    """While the client takes one, the agent is not waited for."""

    def change(path: Path, value: bytes) -> bytes | None:
        if bytes(found.get(path[0].decode(), value)) != value:
            raise ValueError("it says two things of itself")
        return changed.get(path[0])

    passing = Passing(_HEAD, change, end=b"")
    try:
        async for chunk in answer.chunks():
            if passed := passing.feed(chunk):
                limits.hold()
                yield passed
                limits.renew()
        passing.close()
    except ValueError as e:
        raise BadUpstream(f"{agent} answered with what is no run", detail=str(e)) from e


def _members(begun: bytes) -> dict[str, Raw] | None:
    """What a relay looks at, as far as it stands in the beginning of a Run; None where that is none that
    passes."""
    found: dict[str, Raw] = {}

    def tell(path: Path, value: bytes) -> None:
        found.setdefault(path[0].decode(), Raw(value))

    try:
        Passing(_HEAD, tell, end=b"").feed(begun)
        head = _run.decode(_encode(found))
    except (ValueError, *UNREADABLE):
        return None
    passes = head.status in SETTLED and head.status != "failed"
    return found if passes and "agent_name" in found else None
