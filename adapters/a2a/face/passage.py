"""One request's way to an A2A agent and back: time limits, names of conversations, notes for the hub."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec

from ....gateway.documents import Passing
from ....gateway.errors import BadUpstream, Unreachable
from ....gateway.lifecycle import Folding
from ....gateway.limits import CallLimits, allowed
from ....gateway.model import ArtifactDelta, Event, Extra, Message, Task, TaskState, Text
from ....gateway.ports import AgentView, Engine
from ....gateway.readable import UNREADABLE
from ....gateway.timestamps import now
from ..codec import Malformed, task_to
from ..contexts import context_at_agent, renamed
from ..events import Item, Update, is_settled, item_to
from ..growth import Growth, grown, growth_reader
from ..heard import Heard
from ..plain import item_at
from ..reader import updates_between
from ..upstream.channel import Params, Taker
from ..upstream.upstream import A2AUpstream
from ..wire import V10, Op, Version
from .call import Call, PassOn
from .large import LargeResult

_encode = msgspec.json.Encoder().encode
_GROWING = frozenset({TaskState.WORKING, TaskState.CANCELING})  # which pieces of an artifact leave as it is
HELD = 64 * 1024  # bytes of pieces that are not put together yet
TOGETHER = 1.0  # seconds: the hub is told no more often what a task at work says
MARK = "agentgw"  # in a task's ``extra``: that it is relayed, and what its agent calls the conversation
_RELAYED: Extra = {MARK: {"relayed": True}}
NOTED = 256 * 1024  # bytes that have passed: of a task that says more no content is kept, nor told the hub
_ELSEWHERE = (Text(text="Too large to be kept here: the agent tells it to who asks for the task."),)


def is_relayed(task: Task) -> bool:
    """Whether the task lives at its agent and the hub only watched it pass."""
    return task.extra.get(MARK, {}).get("relayed") is True


class Passage:
    """``version``: the agent's; ``known``: the task that the request is about; ``message``: the client's.
    ``limits``: the blocks in which it waits for the agent, which raise UpstreamTimeout when that takes too
    long. To be closed when the request is over."""

    has_passed = False  # whether a unary result went to the client in pieces
    _size = 0  # bytes that have passed
    # Of what comes piece by piece:
    _streams = False  # whether the client hears of the task so
    _passed = False  # whether anything of a stream has
    _settled = False  # whether its last result settles the task
    _folding: Folding | None = None  # what becomes of the task while there are updates
    _added: list[Growth] | None = None  # which passed, and are not in there yet
    _held = 0  # bytes of them
    _heard: Heard | None = None  # what its artifacts said, once the task here is without that
    _told_at = 0.0

    def __init__(
        self,
        engine: Engine,
        call: Call,
        view: AgentView,
        agent: A2AUpstream,
        version: Version,
        known: Task | None = None,
        message: Message | None = None,
    ) -> None:
        self._engine = engine
        self._call = call
        self._name = view.name
        self._agent = agent
        self._version: Version = version
        if message is not None and memoryview(call.raw).nbytes > NOTED:
            message = msgspec.structs.replace(message, parts=_ELSEWHERE)
        self._message = message
        self._task = known
        self._told = known  # as the hub knows it
        self._ours = known.context_id if known else None  # what the client calls the conversation
        idle, total = allowed(view.record, engine.config.limits, call.timeouts)
        self.limits = CallLimits(engine.timers, self._name, idle, total)

    @property
    def task(self) -> Task | None:
        """The task that the request is about, as far as it has passed; without content where that is much."""
        if self._added:
            self._grow()
        if self._folding is not None:
            self._task = self._folding.task
        return self._task

    def _time(self) -> float:
        return self._engine.timers.loop.time()

    def close(self) -> None:
        """The request is over."""
        self.limits.close()
        if self._task is not self._told or self._folding is not None or self._added:
            self._tell()

    # --- names -------------------------------------------------------------------------------

    async def context_sent(self, wanted: str) -> str:
        """What the agent is told where the client names the conversation ``wanted``. Raises Malformed for
        one that is not the task's (section 3.4.3)."""
        if (task := self.task) is not None:
            if wanted != task.context_id:
                raise Malformed(f"the task belongs to another context: {task.context_id}")
            return task.extra.get(MARK, {}).get("context") or wanted
        self._ours = wanted
        principal = self._call.principal
        known = await self._engine.upstream_context(self._name, wanted, principal)
        if known is not None:
            return known
        others = await self._engine.is_others_context(self._name, wanted, principal)
        return context_at_agent(wanted, principal, others=others)

    # --- calls -------------------------------------------------------------------------------

    def asked(self, op: Op, params: Params, *, passes: bool = False) -> Coroutine[Any, Any, msgspec.Raw]:
        """A unary operation, to be awaited within ``limits``. ``passes``: a large result may go to the client
        as it comes (``has_passed``)."""
        call = self._call
        on_large = None
        if passes and call.pass_on is not None and self._version == call.version:
            on_large = partial(self._pass_on, call.pass_on, op)
        return self._agent.call(
            op,
            params,
            trace=call.span.trace,
            extensions=call.extensions,
            activated=call.activated,
            on_large=on_large,
        )

    async def _pass_on(self, pass_on: PassOn, op: Op, pieces: AsyncGenerator[bytes], after: bytes) -> bool:
        """See ``upstream.channel.OnLarge``."""
        large = LargeResult(op, self._version, self._ours)
        self.has_passed = True
        self._call.attributes["agentgw.passed_in_pieces"] = True
        try:
            async with aclosing(self._passing(large, pieces, after)) as passing:
                await pass_on(passing)
        finally:
            match large.found:
                case Task() as task:
                    self.note(task)
                case Message() as message:
                    self._noted(message)
                case None:
                    pass
        return True

    async def _passing(
        self, large: LargeResult, pieces: AsyncGenerator[bytes], after: bytes
    ) -> AsyncGenerator[bytes]:
        """The pieces for the client. While it takes one, the agent is not waited for."""
        passing = Passing(large.shape, large.change, end=after)
        try:
            async for piece in pieces:
                self._size += len(piece)
                if passed := passing.feed(piece):
                    self.limits.hold()
                    yield passed
                    self.limits.renew()
            passing.close()
        except ValueError as e:
            raise BadUpstream(f"{self._name} gave an answer that is not A2A", detail=str(e)) from e

    async def stream(self, op: Op, params: Params) -> AsyncGenerator[bytes]:
        """A streaming operation, for the client. A stream that breaks, or ends while the task goes on, is
        taken up where it broke."""
        self._streams = True
        call, over = self._call, False
        source = self._agent.stream(
            op,
            params,
            trace=call.span.trace,
            extensions=call.extensions,
            activated=call.activated,
            taker=Taker(growth_reader(), self._take) if self._version == call.version == V10 else None,
        )
        try:
            async with aclosing(source):
                while True:
                    with self.limits:
                        result = await anext(source, None)
                    if result is None:
                        break
                    result = bytes(result)
                    item = self._read(result)
                    over = item is not None and is_settled(item)
                    self._settled = item is None or over
                    self._passed = True
                    yield self._written(result, item)
        except Unreachable:
            if not self._passed or (self.task is None and not over):
                raise
        if not self._passed:
            raise BadUpstream(f"{self._name} ended its answer without a result")
        if not self._settled and self.task is not None:
            async with aclosing(self.rejoined()) as rest:
                async for result in rest:
                    yield result

    def _take(self, growths: list[tuple[bytes, Growth]]) -> bool:
        """Pass results on at once that only add to what the task at work says; whether it did. What they say
        is put together later, for many of them."""
        task, now = self._task, self._call.now
        if task is None or now is None:
            return False
        if (task if self._folding is None else self._folding).state not in _GROWING:
            return False
        if any(update.task_id != task.id for _, update in growths):
            return False
        if not now([self._renamed(result, update.context_id) for result, update in growths]):
            return False
        self.limits.renew()
        self._passed, self._settled = True, False
        for result, update in growths:
            self._size += len(result)
            self._held += len(result)
            if self._added is None:
                self._added = []
            self._added.append(update)
        at = self._time()
        if at >= self._told_at + TOGETHER or self._held > HELD:
            self._told_at = at
            self._tell()
        return True

    async def rejoined(self, *, fresh: bool = False) -> AsyncGenerator[bytes]:
        """What has happened to the task since the client last heard of it, and what comes. ``fresh``: it has
        heard nothing, and gets the task as it is first."""
        self._streams = True
        known = self.task
        assert known is not None
        async with aclosing(self._agent.rejoined(known.id, self._call.span.trace)) as source:
            while True:
                with self.limits:
                    item = await anext(source, None)
                if item is None:
                    return
                news: list[Item] = [item]
                if isinstance(item, Task) and not fresh and (known := self.task) is not None:
                    news = list(updates_between(known, item, self._heard))
                fresh = False
                self._noted(item)
                for each in news:
                    encoded = self._encoded(each)
                    self._size += len(encoded)
                    yield encoded

    # --- results -----------------------------------------------------------------------------

    def passed(self, result: msgspec.Raw) -> bytes:
        """A result for the client; it is noted."""
        said = bytes(result)
        return self._written(said, self._read(said))

    def passed_task(self, result: msgspec.Raw) -> bytes:
        """The same for a result that is a task."""
        self._size += memoryview(result).nbytes
        try:
            task = self._agent.task(result, self._version)
        except BadUpstream:
            if self._version != self._call.version:
                raise
            return bytes(result)
        ours = self.note(task)
        if self._version != self._call.version:
            return _encode(task_to(msgspec.structs.replace(task, context_id=ours), self._call.version))
        return self._renamed(result, task.context_id)

    def _read(self, result: bytes) -> Item | None:
        """What the agent said; it is noted. None: something newer than we know, which is the client's."""
        self._size += len(result)
        try:
            item = item_at(result, self._version)
        except (Malformed, *UNREADABLE) as e:
            if self._version == self._call.version:
                return None
            raise BadUpstream(f"{self._name} gave an answer that is not A2A", detail=str(e)) from e
        self._noted(item)
        return item

    def _written(self, result: bytes, item: Item | None) -> bytes:
        if item is None or self._version == self._call.version:
            return self._renamed(result, item.context_id if item is not None else None)
        return self._encoded(item)

    def _renamed(self, result: bytes | msgspec.Raw, theirs: str | None) -> bytes:
        if not theirs or not self._ours or theirs == self._ours:
            return bytes(result)
        return renamed(result, theirs, self._ours)

    def _encoded(self, item: Item) -> bytes:
        wire = _encode(item_to(item, self._call.version))
        theirs = item.context_id
        if theirs and self._ours and theirs != self._ours:
            return renamed(wire, theirs, self._ours)
        return wire

    # --- notes -------------------------------------------------------------------------------

    def _noted(self, item: Item) -> None:
        match item:
            case Update():
                self._update(item)
            case Task():
                self.note(item)
            case Message():
                if item.context_id:
                    self._ours = self._ours or item.context_id
                    self._engine.converse(self._name, self._ours, self._call.principal, item.context_id)

    def note(self, task: Task) -> str:
        """Tell the hub of the task as it is; returns the client's name for its conversation."""
        theirs, known = task.context_id, self.task
        self._ours = ours = self._ours or theirs
        mark = _RELAYED if ours == theirs else {MARK: {"relayed": True, "context": theirs}}
        said = None if "history" in task.extra.get("a2a", ()) else self._message
        at = now()
        task = msgspec.structs.replace(
            task,
            agent=self._name,
            context_id=ours,
            input=task.input or said,
            created_at=task.created_at or at,
            updated_at=task.updated_at or at,
            extra={**task.extra, **mark} if task.extra else mark,
        )
        if known is not None and known.id == task.id:
            task = _with_history(task, known)
        self._task, self._folding, self._heard = task, None, None
        if self._size > NOTED:
            self._lighten()
        self._call.saw(task)
        self._tell()
        return ours

    def _update(self, update: Update) -> None:
        """Take in a change of the task. Of many that come one after another the hub is told together, unless
        the task's state changes: each would cost what the whole task costs."""
        if self._added:
            self._grow()
        if self._task is None or self._task.id != update.task_id:
            self.note(Task(id=update.task_id, context_id=update.context_id, agent=self._name))
        folding = self._begun()
        before = folding.state
        self._fold(folding, update.event, update.at)
        now = self._time()
        if folding.state is not before:
            self._call.saw(folding.task)
        elif now < self._told_at + TOGETHER:
            return
        self._told_at = now
        self._tell()

    def _begun(self) -> Folding:
        """The folding of the task that is known."""
        if self._size > NOTED and self._heard is None:
            self._lighten()
        if self._folding is None:
            assert self._task is not None
            self._folding = Folding(self._task)
        return self._folding

    def _grow(self) -> None:
        """Take in what ``_take`` has passed on since."""
        added, self._added, self._held = self._added, None, 0
        folding = self._begun()
        for event in grown(added or ()):
            self._fold(folding, event)

    def _fold(self, folding: Folding, event: Event, at: str = "") -> None:
        if isinstance(event, ArtifactDelta) and self._heard is not None:
            self._heard.add(event)
            event = _light_event(event)
        folding.add(event, at)

    def _lighten(self) -> None:
        """From here on what the artifacts say is not kept."""
        if (task := self.task) is None:
            return
        if self._streams:
            self._heard = Heard(task.artifacts)
        self._task, self._folding = _light(task), None

    def _tell(self) -> None:
        """Tell the hub what it does not know yet. A look that shows nothing new is no change of the task:
        lists are sorted by those."""
        told = self._told
        task = self._task if self._folding is None and not self._added else self.task
        if task is None or task is told or not task.id:
            return
        self._told = task
        if told is None or told.id != task.id or _seen(task) != _seen(told):
            theirs = task.extra[MARK].get("context") or task.context_id
            self._engine.observe(task, self._call.principal, upstream=self._name, context=theirs)


def _light(task: Task) -> Task:
    """The task without what its artifacts say, and without what was said before."""
    artifacts = tuple(msgspec.structs.replace(a, parts=_ELSEWHERE) for a in task.artifacts)
    own = task.extra.get("a2a", {})
    extra = task.extra
    if "history" in own:
        extra = {**extra, "a2a": {name: value for name, value in own.items() if name != "history"}}
    return msgspec.structs.replace(task, artifacts=artifacts, extra=extra)


def _light_event(event: ArtifactDelta) -> ArtifactDelta:
    artifact = msgspec.structs.replace(event.artifact, parts=_ELSEWHERE)
    return msgspec.structs.replace(event, artifact=artifact, append=False)


def _seen(task: Task | None) -> Any:
    return task and (task.state, task.status_message, task.artifacts, task.metadata, task.context_id)


def _with_history(task: Task, known: Task) -> Task:
    """The task with the longer of its histories: who looks may have asked for less."""
    before = known.extra.get("a2a", {}).get("history", ())
    own = dict(task.extra.get("a2a", {}))
    if len(before) > len(own.get("history", ())):
        own["history"] = before
        task = msgspec.structs.replace(task, extra={**task.extra, "a2a": own})
    return msgspec.structs.replace(task, input=task.input or known.input)
