"""The ports: what the hub, the adapters and the directory ask of one another.

An adapter is a plugin: an ``Adapter`` value under an entry point of the group ``agentgw.adapters``. The
built-in ones are declared in the very same way. An adapter sees the hub only through ``Host`` (to reach
an agent) and ``Engine`` (to serve clients); the hub sees an adapter only through the classes below.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from .access import Access
from .breaker import Breaker
from .children import Children
from .config import Config
from .errors import GatewayError
from .homes import Homes
from .http.asgi import ASGI
from .http.request import Request
from .http.wire import Headers
from .model import (
    Agent,
    Event,
    Health,
    InputReply,
    Invocation,
    Logged,
    Place,
    Principal,
    Record,
    Task,
    TaskRef,
    TaskState,
    Trace,
)
from .owned import OwnedIds
from .seal import Sealer
from .telemetry import Tracer
from .transport import Transport
from .waiting import Timer, Timers


class Tell(Protocol):
    """Takes events in, at once; what came together had best be told together. What it gives back is to be
    awaited before more is read from the agent: all who follow the task are slow. None: go on. Who can't slow
    its agent down may leave it alone."""

    __slots__ = ()

    def __call__(self, *events: Event) -> Awaitable[None] | None: ...

    def more(self, text: str, place: Place) -> Awaitable[None] | None:
        """The same for a piece of bare text, which most events are."""
        return self(place.event(text))


PassOn = Callable[[Request, str, Headers], Awaitable[None]]
Handler = Callable[[Request], Awaitable[None]]


# --- towards agents --------------------------------------------------------------------------


class Host(Protocol):
    """What the gateway gives an upstream: the way out, tracing, settings, resolved secrets."""

    transport: Transport
    tracer: Tracer
    breaker: Breaker
    """Whether the agent is to be called now. ``transport`` minds it; other ways to an agent ask it."""

    children: Children
    """Starts agents that are processes."""

    @property
    def config(self) -> Config:
        """The settings as they are now: a reload puts others in place."""
        ...

    def headers(self, record: Record) -> list[tuple[str, str]]:
        """The record's headers with their references resolved: the same list as long as they are the same,
        not to be altered. Raises ConfigError for a reference to nothing."""
        ...

    def environment(self, record: Record) -> dict[str, str]:
        """The environment of a stdio agent: the record's own, resolved, over a minimal inherited one."""
        ...

    def hidden(self, record: Record) -> Sequence[str]:
        """What of that environment must not be shown: the record's own values, and what their references
        stand for."""
        ...

    def changed(self, agent: str) -> None:
        """The agent says that its description changed: refresh it soon, off the request's path."""
        ...


class Upstream(Protocol):
    """One registered agent, reached over its protocol. Made once per record; calls run in parallel."""

    async def describe(self) -> Sequence[Agent]:
        """The agents found there (one, when the record names it). Raises UpstreamError. Also the health
        check: it must speak the protocol, not merely connect."""
        ...

    async def invoke(self, call: Invocation, tell: Tell) -> None:
        """Run one turn. Tells each event as it comes, and returns after Finished or InputRequired, the last
        that counts.

        Raises GatewayError; anything else is a bug and reaches the client as ``{agent} failed``. Being
        cancelled must release its connection without cancelling the agent's task.
        """
        ...

    async def reply(self, task: TaskRef, call: Invocation, reply: InputReply, tell: Tell) -> None:
        """Answer the open question of ``task`` and go on with the same task, as ``invoke`` does."""
        ...

    async def cancel(self, task: TaskRef) -> None:
        """Ask the agent to stop. Raises Unsupported or NotActive where it can't."""
        ...

    async def aclose(self) -> None:
        """Release connections and processes."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """An upstream that keeps what the settings said when it connected."""

    def rebound(self) -> None:
        """Limits or ``outbound`` are others now: they hold for calls from now on."""
        ...


@runtime_checkable
class Remembers(Protocol):
    """An upstream that keeps what it has read of its agent's description."""

    def outdated(self) -> None:
        """Another process has found that the agent describes itself anew: read it again when it is next
        wanted."""
        ...


@runtime_checkable
class Wakes(Protocol):
    """An upstream that has processes of its own."""

    async def wake(self) -> None:
        """End those that are there and answer nothing. Raises UpstreamError for one that does not answer
        while it works. Where agents are described, that does it, too."""
        ...


@runtime_checkable
class Rejoins(Protocol):
    """An upstream whose agent keeps tasks: what another process began there can be picked up."""

    async def rejoin(
        self, task: TaskRef, known: Task, trace: Trace, tell: Tell, *, follow: bool = True
    ) -> None:
        """Go on with a task. Tells Started once the agent has shown that it knows the task, then what has
        happened to it beyond ``known``, the task as far as it was told, up to Finished or InputRequired;
        without ``follow`` what one look shows. Raises UnknownTask when the agent has forgotten it,
        GatewayError else, as ``invoke`` does."""
        ...


@runtime_checkable
class Keeps(Protocol):
    """An upstream whose agent keeps tasks that relays saw begin, and can say how they stand."""

    async def stands(self, task: Task, principal: Principal) -> TaskState:
        """The state of a task, which is known by the agent's own id. Raises UnknownTask when the agent has
        forgotten it, GatewayError when it can't be asked now."""
        ...

    def kept_until(self, task: Task) -> float:
        """The time (seconds since 1970) until which the agent has promised to keep it; 0: it has not said."""
        ...


@runtime_checkable
class Credentialed(Protocol):
    """A transport that adds a header to what goes to the agent. For what goes there past it (gRPC)."""

    async def credentials(self, refused: tuple[str, str] | None = None) -> tuple[str, str] | None:
        """The header, name and value; another than the ``refused`` one, None if there is no other. Raises
        GatewayError when it can't be had."""
        ...

    def accepted(self) -> None:
        """The agent has taken it."""
        ...


# --- towards clients -------------------------------------------------------------------------


class AgentView(msgspec.Struct, frozen=True):
    """A registered agent as the doors see it: its record, last known description (None: never
    described), health, and its upstream. ``upstream`` is for an adapter's own relay: a face may look
    whether it is of its own adapter."""

    record: Record
    agent: Agent | None
    health: Health
    upstream: Upstream

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def description(self) -> str:
        """The operator's words, else the agent's own."""
        return self.record.description or (self.agent.description if self.agent else "")


class TaskHandle(Protocol):
    """A task in the gateway, running or ended."""

    @property
    def id(self) -> str:
        """The gateway's id of the task: ``task.id``."""
        ...

    @property
    def state(self) -> TaskState:
        """Its state now: ``task.state``, without putting the task together."""
        ...

    @property
    def task(self) -> Task:
        """The task as it is now. The messages and artifacts of one that says much (``light``) have no parts:
        see ``whole``."""
        ...

    async def whole(self, until: int | None = None) -> Task:
        """The task with all that it says, as it was after event ``until`` (one that ``last_seq`` has just
        given; None: as it is now). Of one that says much that comes from the store."""
        ...

    @property
    def last_seq(self) -> int:
        """The number of the newest event in the log; 0 before the first (and for what a relay saw)."""
        ...

    @property
    def relayed(self) -> bool:
        """Whether the agent itself keeps the task, and a relay only saw it pass."""
        ...

    def events(
        self,
        after: int = 0,
        taker: Callable[[Logged], bool] | None = None,
        more: Callable[[str, Place], bool] | None = None,
    ) -> AsyncGenerator[Logged]:
        """The log from ``after`` on and then live; ends when the task has ended or waits for input. What is
        logged while the follower waits is offered to ``taker`` at once: True says that it has taken it, and
        the follower waits on. What it raises is raised where the follower waits, and nowhere else.

        A piece of bare text may be offered to ``more`` before, which says the same; what that does not take
        goes to ``taker``."""
        ...

    async def log(self) -> Sequence[Logged]:
        """The log as far as it has come."""
        ...

    async def settled(self, within: Timer | None = None) -> Task:
        """Wait until the task has ended or waits for input; it is as in ``task``. Raises TimeoutError when
        the time of ``within`` passes before."""
        ...

    async def changed(self) -> None:
        """Wait for the next change of the task: an event, or what a relay saw."""
        ...


class Items(Protocol):
    """An adapter's own durable data: bytes by key in a space of its own (``a2a.push``)."""

    async def all(self, space: str) -> dict[str, bytes]:
        """Everything in the space, by key."""
        ...

    async def put(self, space: str, key: str, value: bytes) -> None:
        """Add or replace; durable when it returns."""
        ...

    async def first(self, space: str, key: str, value: bytes) -> bytes:
        """Add, unless the key is there; its value now, whoever was first. Durable when it returns."""
        ...

    async def remove(self, space: str, key: str) -> None:
        """Remove; an unknown key is fine. Durable when it returns."""
        ...


class Engine(Protocol):
    """The hub as a face sees it. Every method raises GatewayError for what it says no to."""

    config: Config
    access: Access
    tracer: Tracer
    items: Items
    sealer: Sealer
    owned: OwnedIds
    transport: Transport
    timers: Timers
    homes: Homes
    pass_on: PassOn
    """Have the home of an id, which is not here, answer a request that has these headers more."""

    def agents(self, principal: Principal) -> Sequence[AgentView]:
        """The enabled agents this principal may reach, in the order of their names. The same object as long
        as none of them, nor their descriptions or health, has changed: what is made of it can be kept."""
        ...

    def agent(self, name: str, principal: Principal) -> AgentView:
        """One of them. Raises UnknownAgent (also for a disabled one, and one that it may not reach)."""
        ...

    async def described(self, name: str, principal: Principal) -> AgentView:
        """The same, waiting up to 3 s for a first description where there is none yet."""
        ...

    async def invoke(self, call: Invocation) -> TaskHandle:
        """Start a turn; returns at once, the agent runs on its own. Without ``context_id`` a new
        conversation begins. With a ``task_id`` that waits for input the message is its answer; with that
        of a running task raises NotActive; of an ended one NotActive; of an unknown one UnknownTask."""
        ...

    async def task(self, task_id: str, principal: Principal) -> TaskHandle:
        """The principal's task. Raises UnknownTask, for another's too."""
        ...

    async def tasks(
        self,
        principal: Principal,
        *,
        agent: str | None = None,
        context_id: str | None = None,
        state: TaskState | None = None,
    ) -> Sequence[Task]:
        """The principal's tasks, newest first."""
        ...

    async def cancel(self, task_id: str, principal: Principal) -> TaskHandle:
        """Ask for cancellation: the task is ``canceling`` until the agent has stopped. Raises NotActive
        for an ended task."""
        ...

    def observe(self, task: Task, principal: Principal, *, upstream: str, context: str | None = None) -> None:
        """Record a task that a relay saw pass (its ids are the upstream's own): replaces what was known
        of it. ``upstream`` is the registered agent's name, ``context`` what that agent calls the task's
        conversation, where it is not ``task.context_id``; "": the conversation needs no record, for its id is
        ``owned``. Cheap; written out later."""
        ...

    def look_after(self, task_id: str, principal: Principal) -> None:
        """Learn what becomes of a task that a relay has just seen begin, whose client may not come back. For
        agents whose upstream ``Keeps`` tasks."""
        ...

    async def upstream_context(self, agent: str, context_id: str, principal: Principal) -> str | None:
        """What the agent calls this conversation of the principal's; None where it has not had a turn."""
        ...

    async def is_others_context(self, agent: str, upstream_id: str, principal: Principal) -> bool:
        """Whether what the agent calls ``upstream_id`` is a conversation of another principal's."""
        ...

    def converse(self, agent: str, context_id: str, principal: Principal, upstream_id: str) -> None:
        """Note what the agent calls a conversation of the principal's (a relay saw it pass)."""
        ...

    def open_question(self, agent: str, context_id: str, principal: Principal) -> str | None:
        """The id of the one task of this conversation that waits for input; None if none or several do."""
        ...

    async def context_agent(self, context_id: str, principal: Principal) -> str | None:
        """The agent that the principal's conversation went to last; None for an unknown one."""
        ...

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back (on the loop, soon) when agents or their descriptions changed; returns the way to
        unsubscribe."""
        ...

    def sanitize(self, agent: str, text: str) -> str:
        """``{agent} failed`` in place of an upstream's crash text; the text goes to the debug log."""
        ...


class Face(Protocol):
    """One protocol's doors."""

    def mounts(self) -> Sequence[tuple[str, Handler]]:
        """Path prefixes (no final slash, ``/acp``) and who serves them. The handler finds the rest of
        the path in ``request.rest`` ("" or "/…")."""
        ...

    def claims(self, request: Request, envelope: Mapping[str, Any] | None) -> bool:
        """Whether a request to the bare address is this protocol's. ``envelope``: the JSON object in the
        body of a POST to ``/``, None elsewhere. Faces are asked in the order of ``Adapter.rank``."""
        ...

    async def root(self, request: Request) -> None:
        """Serve a request that ``claims`` said yes to; ``request.rest`` is the whole path."""
        ...

    def home(self, request: Request, body: bytes) -> str | Awaitable[str | None] | None:
        """The id (a task's, a conversation's, a session's) whose state the request needs: where several
        processes are one gateway, the request is served by that id's home (``homes``). None: by any, or it is
        known to be here. Asked only there, before anything else; never raises for what the request holds.
        ``body``: of a POST, empty where it is refused. Awaited where it must be looked up."""
        ...

    def public(self, request: Request) -> bool:
        """Whether a request without a key is answered all the same where keys are wanted: with what is meant
        for everybody and names no agent. It is served for ``access.NOBODY``, who reaches no agent."""
        ...

    def refusal(self, request: Request, error: GatewayError) -> bytes:
        """The body of an answer that says no before the request was read (too many are under way, the head
        is too large, …), in the protocol's form. The front sends it, with the status that HTTP has for it."""
        ...

    def start(self) -> None:
        """The hub knows its tasks again: take up what a former process left. Called once, on the loop,
        before any request."""
        ...

    def drain(self) -> None:
        """The gateway stops soon: end streams that only wait for news; calls that run go on."""
        ...

    def cut(self) -> None:
        """The grace is over: whoever still waits for an agent, which goes on, is told that the gateway
        stops."""
        ...

    async def aclose(self) -> None:
        """All streams end, sessions are forgotten."""
        ...


class Listener(Protocol):
    """A port of a protocol's own, beside HTTP."""

    async def start(self) -> None:
        """Begin to listen. Raises ConfigError when that can't be."""
        ...

    async def aclose(self) -> None:
        """Stop; calls that still run are cut off."""
        ...


# --- plugins ---------------------------------------------------------------------------------


class Found(msgspec.Struct, frozen=True):
    """What a probe found at a URL: the URL to register, and the agents there (``remote`` names)."""

    url: str
    agents: tuple[Agent, ...]


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """A protocol plugin. Building it does nothing; ``upstream`` and ``face`` are called when needed.

    ``probe(url, headers, host)`` tells whether the URL speaks the protocol (None: it does not; raises
    UpstreamError when it does but refuses, e.g. for want of credentials). ``rank`` orders probing and
    ``Face.claims``: lower first. ``stdio``: agents may be commands. ``listener(app, config, host)``: what
    listens beside HTTP, handing on to ``app`` (under the Host ``host``); None: nothing is wanted.
    """

    id: str
    title: str
    rank: int = 100
    stdio: bool = False
    upstream: Callable[[Record, Host], Upstream] | None = None
    face: Callable[[Engine], Face] | None = None
    probe: Callable[[str, list[tuple[str, str]], Host], Awaitable[Found | None]] | None = None
    listener: Callable[[ASGI, Config, str], Listener | None] | None = None
