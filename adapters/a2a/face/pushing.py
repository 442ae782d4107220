"""Telling a webhook what becomes of a task: in order, again when it fails, holding up nobody else.

One courier per configuration. It sends what streams would send (specification 1.0.1, section 4.3.3), first
the task as it stands; to 0.3, which knows only that, always the task. A receiver that is slow, or was away,
gets the task as it stands instead of all that it missed: nothing piles up, and the end is never lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from enum import Enum
from time import time
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ....gateway.errors import Forbidden, GatewayError, InvalidRequest
from ....gateway.lifecycle import PAUSED, TERMINAL
from ....gateway.model import ArtifactDelta, Task, Trace
from ....gateway.outbound import checked
from ....gateway.ports import Engine
from ....gateway.telemetry import Span, Template
from ..codec import task_to
from ..events import item_to
from ..pushconfig import PushConfig
from ..wire import V03, Version
from .news import Feed, News

log = logging.getLogger("agentgw.a2a.push")

ATTEMPTS = 12  # for one notification; with the pauses between, some eight minutes
PAUSE_FIRST, PAUSE_MOST, PAUSE_GROWTH = 1.0, 60.0, 2.0  # seconds before the next attempt
RETRY_AFTER_MOST = 300.0  # seconds that a receiver may ask to be left alone
TIMEOUT = 15.0  # seconds for a receiver to answer
READ_TIMEOUT, READ_MOST = 2.0, 64 * 1024  # for the answer's body, which nobody reads
LAG = 50  # events a receiver may be behind before it gets the task instead
AT_ONCE, AT_ONCE_PER_ORIGIN = 256, 16  # notifications under way

_AGAIN = frozenset({408, 425, 429})
_SETTLED = TERMINAL | PAUSED
_PUSH = Template("PushNotification", "client", {"http.request.method": "POST"})
_encode = msgspec.json.Encoder().encode


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A configuration with what the gateway must know to serve it. ``principal``: whose it is; ``version``:
    the form of its notifications; ``media_type``: what they are called; ``trace``: the request that made it;
    ``relayed``: how to find the task at its agent, where that is where it lives (see ``passage``);
    ``created``, and ``ended``, since when there is nothing more to tell, in seconds since the epoch."""

    task_id: str
    context_id: str
    agent: str
    principal: str
    owner: bool = False
    version: Version
    media_type: str
    config: PushConfig
    trace: Trace = Trace()
    relayed: dict[str, Any] | None = None
    created: float
    ended: float | None = None


class Outcome(Enum):
    """What became of a notification."""

    TOLD = "told"
    REFUSED = "refused"
    GAVE_UP = "gave_up"
    OUTDATED = "outdated"


class Post:
    """The way to the webhooks, shared by all couriers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._all = asyncio.Semaphore(AT_ONCE)
        self._origins: dict[str, tuple[asyncio.Semaphore, int]] = {}

    async def deliver(
        self, entry: Entry, body: bytes, outdated: Callable[[], bool], *, piece: bool = False
    ) -> Outcome:
        """Send until it arrives; ``outdated`` is asked before each new attempt. ``piece``: one of many, of
        which the trace is to know only if it fails."""
        span = self._engine.tracer.start(
            _PUSH,
            entry.trace,
            {"a2a.task.id": entry.task_id, "agentgw.agent": entry.agent},
        )
        error: str | None = "canceled"
        try:
            outcome = await self._sent(entry, body, outdated, span)
            error = None if outcome is Outcome.TOLD else outcome.value
        finally:
            if error or not piece:
                span.end(error)
        return outcome

    async def _sent(self, entry: Entry, body: bytes, outdated: Callable[[], bool], span: Span) -> Outcome:
        pause = PAUSE_FIRST
        for attempt in range(1, ATTEMPTS + 1):
            span.set("http.request.resend_count", attempt - 1)
            status, wait = await self._attempt(entry, body, attempt)
            span.set("http.response.status_code", status or None)
            if 200 <= status < 300:
                return Outcome.TOLD
            if status and status < 500 and status not in _AGAIN:
                log.info("the webhook of task %s answers %d: it is told no more", entry.task_id, status)
                return Outcome.REFUSED
            if attempt < ATTEMPTS:
                await asyncio.sleep(max(wait, pause * random.uniform(0.5, 1.0)))
                pause = min(pause * PAUSE_GROWTH, PAUSE_MOST)
                if outdated():
                    return Outcome.OUTDATED
        log.info("the webhook of task %s does not answer: given up for now", entry.task_id)
        return Outcome.GAVE_UP

    async def _attempt(self, entry: Entry, body: bytes, attempt: int) -> tuple[int, float]:
        """The status of the answer (0: there was none; 403 also for an address that must not be reached, and
        for a caller whose key has ended), and for how many seconds the receiver wants to be left alone."""
        if not self._engine.access.stands(entry.principal):
            log.debug("the webhook of task %s: its caller's key has ended", entry.task_id)
            return 403, 0.0
        config, allow = entry.config, self._engine.config.outbound.allow
        headers = [("content-type", entry.media_type), ("accept", "*/*"), *config.headers()]
        try:
            async with self._place(config.url), asyncio.timeout(TIMEOUT):
                address = await checked(config.url, allow, attempt - 1)
                sending = self._engine.transport.stream(
                    "POST", config.url, headers=headers, body=body, address=address
                )
                async with sending as answer:
                    with suppress(GatewayError, TimeoutError):
                        async with asyncio.timeout(READ_TIMEOUT):
                            await answer.read(READ_MOST)
                    return answer.status, _retry_after(answer.header("retry-after"))
        except (Forbidden, InvalidRequest) as e:
            log.debug("the webhook of task %s: %s", entry.task_id, e.message)
            return 403, 0.0
        except GatewayError as e:
            log.debug("the webhook of task %s: %s", entry.task_id, e.message)
        except TimeoutError:
            log.debug("the webhook of task %s took too long", entry.task_id)
        return 0, 0.0

    @asynccontextmanager
    async def _place(self, url: str) -> AsyncGenerator[None]:
        """A place among the notifications under way: one slow receiver takes only a few."""
        origin = urlsplit(url).netloc
        here, users = self._origins.get(origin, (asyncio.Semaphore(AT_ONCE_PER_ORIGIN), 0))
        self._origins[origin] = (here, users + 1)
        try:
            async with here, self._all:
                yield
        finally:
            here, users = self._origins[origin]
            if users == 1:
                del self._origins[origin]
            else:
                self._origins[origin] = (here, users - 1)


def _retry_after(value: str | None) -> float:
    """Seconds (RFC 9110, section 10.2.3); 0 where nothing, or nothing readable, is asked for."""
    if not value:
        return 0.0
    try:
        seconds = float(value) if value.isdigit() else parsedate_to_datetime(value).timestamp() - time()
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_MOST)


class Courier:
    """Tells one webhook of one task."""

    def __init__(self, entry: Entry, feed: Feed, post: Post) -> None:
        self._entry = entry
        self._feed = feed
        self._post = post

    async def run(self) -> None:
        """Until the task's end was told, or will not be heard. Raises UnknownTask when there is no task."""
        feed = self._feed
        waiting: deque[News] = deque([await feed.snapshot()])
        while True:
            while waiting:
                if self._outdated(len(waiting)):
                    waiting = deque([await feed.snapshot()])
                outcome = await self._told(waiting.popleft(), len(waiting))
                if outcome is Outcome.REFUSED or (outcome is Outcome.GAVE_UP and self._over(waiting)):
                    return
                if outcome is Outcome.GAVE_UP:
                    await self._settled(bool(waiting))
                if outcome is not Outcome.TOLD:
                    waiting = deque([await feed.snapshot()])
            if self._over(waiting):
                return
            outdated = self._outdated(0)
            waiting.extend([await feed.snapshot()] if outdated else await self._form(await feed.news()))
            if not waiting and not feed.fresh:
                await feed.changed()

    def _over(self, waiting: deque[News]) -> bool:
        return self._feed.task.state in TERMINAL and not self._feed.fresh and not waiting

    def _outdated(self, waiting: int) -> bool:
        return waiting + self._feed.behind > LAG

    async def _told(self, item: News, waiting: int) -> Outcome:
        entry = self._entry
        if entry.version == V03 and isinstance(item, Task):
            body = _encode(task_to(item, V03))
        else:
            body = _encode(item_to(item, entry.version))
        return await self._post.deliver(entry, body, lambda: self._outdated(waiting), piece=_is_piece(item))

    async def _form(self, news: Sequence[News]) -> list[News]:
        """0.3: the task, once, if anything happened that is more than a piece of something."""
        if self._entry.version != V03 or not news:
            return list(news)
        return [] if all(_is_piece(x) for x in news) else [await self._feed.snapshot()]

    async def _settled(self, owed: bool) -> None:
        """After nobody answered for long: wait until the task has ended or asks, then try again."""
        while not ((owed or self._feed.fresh) and self._feed.task.state in _SETTLED):
            await self._feed.changed()


def _is_piece(item: News) -> bool:
    return not isinstance(item, Task) and isinstance(item.event, ArtifactDelta) and not item.event.last
