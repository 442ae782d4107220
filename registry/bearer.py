"""A bearer token that many calls use: kept, renewed ahead of its end, asked for once by all who wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from math import inf

import msgspec

from ..gateway.errors import GatewayError

Header = tuple[str, str]
AHEAD, AHEAD_SHARE = 60.0, 0.2  # how long before a token's end it is renewed: seconds, or a share of its life
LEEWAY, LEEWAY_SHARE = 5.0, 0.05  # the same for when it is used no more: clocks differ, requests take time
PAUSE_FIRST, PAUSE_MOST = 1.0, 30.0  # seconds in which nobody asks again after that failed
TRIES = 2  # tokens that may replace refused ones, one after the other: the first may be long known elsewhere
FUTILE = 30.0  # seconds in which no more are asked for once those were refused, too


class Issued(msgspec.Struct, frozen=True):
    """A token as a header; ``expires``: seconds since the epoch, None: not said."""

    header: Header
    expires: float | None = None


def issued(access: str, expires: float | None) -> Issued:
    """The token as it is sent (RFC 6750, section 2.1)."""
    return Issued(("authorization", f"Bearer {access}"), expires)


# Gets a token; told which one was refused, another than that. Raises GatewayError.
Obtain = Callable[[Header | None], Awaitable[Issued]]


class Bearer:
    """``obtain`` is not called twice at a time, but after ``forget``. ``turned`` is told when a token can't
    be had any more, or is to be had again. ``clock``: seconds since the epoch."""

    def __init__(
        self, obtain: Obtain, turned: Callable[[], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._obtain = obtain
        self._turned = turned
        self._clock = clock
        self._header: Header | None = None
        self.expires: float | None = None  # of the token at hand
        self._stale = self._over = 0.0  # when it is to be renewed, and is used no more
        self._asking: asyncio.Task[Header] | None = None
        self._jobs: set[asyncio.Task[Header]] = set()  # that one, and those that count no more
        self._failed: GatewayError | None = None
        self._pause, self._again = PAUSE_FIRST, 0.0
        # Tokens that replaced refused ones since the agent has taken one; whoever sees that sets it to 0.
        self.doubts = 0
        self._doubted_at = 0.0  # when the last of them came

    def now(self) -> Header | None:
        """The token, if it is at hand; one that ends soon is renewed on the side."""
        at = self._clock()
        if at < self._stale:
            return self._header
        if at >= self._over:
            return None
        if at >= self._again:
            self._ask(None)
        return self._header

    async def get(self) -> Header:
        """The token, waited for where there is none. Raises GatewayError."""
        known = self.now()
        if known is not None:
            return known
        if self._asking is None and self._failed is not None and self._clock() < self._again:
            raise self._failed.with_traceback(None)
        return await asyncio.shield(self._ask(None))

    async def refused(self, header: Header) -> Header | None:
        """The agent refused this one: another; None if there is no other. Raises GatewayError."""
        if self._header is not None and self._header != header:
            return self.now()
        if self.doubts >= TRIES and self._clock() - self._doubted_at < FUTILE:
            return None
        if self._asking is None and self._failed is not None and self._clock() < self._again:
            raise self._failed.with_traceback(None)
        new = await asyncio.shield(self._ask(header))
        return None if new == header else new

    def forget(self) -> None:
        """What was obtained counts no more, nor what is being obtained: who waits for it already gets it."""
        self._asking = None
        self._header, self._stale, self._over = None, 0.0, 0.0
        self._again, self._pause, self.doubts = 0.0, PAUSE_FIRST, 0

    def close(self) -> None:
        for job in self._jobs:
            job.cancel()

    def _ask(self, refused: Header | None) -> asyncio.Task[Header]:
        if self._asking is None:
            self._asking = asyncio.create_task(self._asked(refused))
            self._jobs.add(self._asking)
            self._asking.add_done_callback(self._done)
        return self._asking

    def _done(self, task: asyncio.Task[Header]) -> None:
        self._jobs.discard(task)
        if self._asking is task:
            self._asking = None
        if not task.cancelled():
            task.exception()  # whoever waits has it; where nobody does it is not lost but kept

    async def _asked(self, refused: Header | None) -> Header:
        mine = asyncio.current_task()
        try:
            found = await self._obtain(refused)
        except GatewayError as e:
            if self._asking is not mine:
                raise
            self._again = self._clock() + self._pause
            self._pause = min(self._pause * 2, PAUSE_MOST)
            if refused is not None and refused == self._header:
                self._header, self._stale, self._over = None, 0.0, 0.0
            self._note(e)
            raise
        if self._asking is not mine:
            return found.header
        at = self._clock()
        if refused is not None:
            self.doubts, self._doubted_at = self.doubts + 1, at
        life = inf if found.expires is None else found.expires - at
        end = inf if found.expires is None else found.expires
        self._header, self.expires = found.header, found.expires
        self._over = end - min(LEEWAY, life * LEEWAY_SHARE) if life < inf else inf
        self._stale = end - min(AHEAD, life * AHEAD_SHARE) if life < inf else inf
        self._again, self._pause = 0.0, PAUSE_FIRST
        self._note(None)
        return found.header

    def _note(self, error: GatewayError | None) -> None:
        before, self._failed = self._failed, error
        if (before is None) != (error is None):
            self._turned()
