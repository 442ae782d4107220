"""What an agent's event stream says, read as it comes and told on."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import msgspec
from msgspec import Raw

from ....gateway import sse
from ....gateway.alike import AlikeEvents
from ....gateway.errors import BadUpstream, InvalidRequest
from ....gateway.model import Event
from ....gateway.ports import Tell
from ....gateway.readable import UNREADABLE
from ....gateway.transport import LARGE, Stream
from ..decoding import RunDecoder, text_at, text_reader, without_pieces
from ..wire import Json


class Hearing:
    """Tells what ``decoder`` makes of an answer's bytes. ``pieces``: whether somebody may want to see an
    answer grow. ``limit``: bytes of an event. What is not ACP raises BadUpstream; what came before it has
    been told."""

    __slots__ = ("_agent", "_decoder", "_pieces", "_reader", "_room", "_tell")

    def __init__(self, agent: str, decoder: RunDecoder, tell: Tell, *, pieces: bool, limit: int) -> None:
        self._agent = agent
        self._decoder = decoder
        self._tell = tell
        self._pieces = pieces
        self._reader = sse.Decoder(limit)
        self._room: Awaitable[None] | None = None  # what to wait for before more is told

    async def hear(self, stream: Stream) -> None:
        """Until the turn has ended, or the stream has."""
        if stream.complete:
            self._told(await stream.read(max(self._reader.limit, 4 * LARGE)))  # the limit is an event's
            return
        several = sse.taker(self._reader, text_reader(), self._take)
        stream.offer(AlikeEvents(self._reader, text_at, self._more, several).take)
        async for chunk in stream.chunks():
            if self._room is not None:
                await self._room
            self._told(chunk)
            del chunk  # it may be long until there is another
            if self._decoder.ended:
                stream.settle()
                return
            if self._room is not None:
                await self._room
                self._room = None

    def run(self, run: Json) -> None:
        """Tell what a Run says that came as the answer."""
        try:
            events = self._decoder.whole(run)
        except InvalidRequest as e:
            raise self._wrong(e) from e
        if events:
            self._tell(*events)

    def _wrong(self, error: InvalidRequest) -> BadUpstream:
        return BadUpstream(f"{self._agent} sent what is not ACP ({error.message})")

    def _more(self, text: str, _: None) -> bool:
        decoder = self._decoder
        if self._room is not None or decoder.ended:
            return False
        decoder.seen += 1
        decoder.parts += 1
        self._room = self._tell.more(text, decoder.place)
        return True

    def _take(self, texts: Sequence[str]) -> bool:
        if self._room is not None or self._decoder.ended:
            return False
        self._room = self._tell(*self._decoder.texts(texts))
        return True

    def _told(self, chunk: bytes) -> None:
        """Tell what the events say that the chunk completes."""
        decoder, agent = self._decoder, self._agent
        found = self._reader.whole(chunk)
        if found and not self._pieces and (answer := decoder.answer(found)) is not None:
            self._room = self._tell(*answer)
            return
        found = found or [item.data for item in events_in(self._reader, chunk, agent)]
        events: list[Event] = []
        try:
            for data in found:
                read = decoder.read(data)
                events += decoder.feed(object_of(data, agent)) if read is None else read
                if decoder.ended:
                    break
        except InvalidRequest as e:
            raise self._wrong(e) from e
        finally:  # what came before something wrong counts
            told = events if self._pieces or len(events) < 3 else without_pieces(events)
            self._room = self._tell(*told) if told else None


def events_in(reader: sse.Decoder, chunk: bytes, agent: str) -> Sequence[sse.ServerEvent]:
    """The events that ``chunk`` completes. Raises BadUpstream for one that is too large."""
    try:
        return reader.feed(chunk)
    except ValueError as e:
        raise BadUpstream(f"an event of {agent} is too large") from e


_decode = msgspec.json.Decoder(Json).decode


def object_of(data: bytes | Raw, agent: str) -> Json:
    """An event, or a Run. Raises BadUpstream for what is no JSON object."""
    try:
        return _decode(data)
    except msgspec.ValidationError as e:
        raise BadUpstream(f"{agent} sent an event that is not an object") from e
    except UNREADABLE as e:
        raise BadUpstream(f"{agent} sent an event that is not JSON", detail=str(e)) from e
