"""MCP on the wire: the JSON-RPC envelope, revisions, names, and what relays hand one another.

Only the envelope is decoded; ``params`` and ``result`` stay bytes (``msgspec.Raw``) until someone needs to
look inside. Two eras of the protocol exist: in the *handshake* era a connection opens with ``initialize``;
in the *modern* one (from 2026-07-28) every request carries its version and capabilities in ``_meta``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ...gateway.model import Principal, Trace
from ...gateway.readable import UNREADABLE, must_be_text

# --- revisions -------------------------------------------------------------------------------

Era = Literal["handshake", "modern"]
HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN_VERSIONS = ("2026-07-28",)
LATEST_HANDSHAKE = HANDSHAKE_VERSIONS[-1]
LATEST_MODERN = MODERN_VERSIONS[-1]

# --- keys of _meta ---------------------------------------------------------------------------

META_VERSION = "io.modelcontextprotocol/protocolVersion"
META_CLIENT_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
META_CLIENT_INFO = "io.modelcontextprotocol/clientInfo"
META_LOG_LEVEL = "io.modelcontextprotocol/logLevel"
META_SERVER_INFO = "io.modelcontextprotocol/serverInfo"
META_SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
META_TRACE = ("traceparent", "tracestate", "baggage")
META_RELATED_TASK = "io.modelcontextprotocol/related-task"  # 2025-11-25, basic/utilities/tasks
TASKS_EXTENSION = "io.modelcontextprotocol/tasks"  # from 2026-07-28 on
# What an era puts into a request's ``_meta`` by itself: a relay between eras takes these out.
META_ENVELOPE = frozenset({META_VERSION, META_CLIENT_CAPABILITIES, META_CLIENT_INFO, META_LOG_LEVEL})

# --- headers (lower case) --------------------------------------------------------------------

H_VERSION = "mcp-protocol-version"
H_SESSION = "mcp-session-id"
H_METHOD = "mcp-method"
H_NAME = "mcp-name"
H_PARAM_PREFIX = "mcp-param-"
H_LAST_EVENT = "last-event-id"
JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream"

# --- error codes -----------------------------------------------------------------------------

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022
RESOURCE_NOT_FOUND = -32002  # until 2025-11-25; -32602 from then on
URL_ELICITATION_REQUIRED = -32042
# A server that puts its crash into an error uses these: their text is withheld from clients.
CRASH_CODES = frozenset({0, INTERNAL_ERROR})
MODERN_ONLY_CODES = frozenset({HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION})

# --- methods ---------------------------------------------------------------------------------

INITIALIZE = "initialize"
INITIALIZED = "notifications/initialized"
DISCOVER = "server/discover"
PING = "ping"
TOOLS_LIST = "tools/list"
TOOLS_CALL = "tools/call"
PROMPTS_LIST = "prompts/list"
PROMPTS_GET = "prompts/get"
RESOURCES_LIST = "resources/list"
RESOURCES_READ = "resources/read"
TEMPLATES_LIST = "resources/templates/list"
SUBSCRIPTIONS_LISTEN = "subscriptions/listen"
CANCELLED = "notifications/cancelled"
PROGRESS = "notifications/progress"
LOG = "notifications/message"
RESOURCE_UPDATED = "notifications/resources/updated"
LIST_CHANGED = frozenset(
    f"notifications/{what}/list_changed" for what in ("tools", "prompts", "resources")
)  # fmt: skip
SAMPLING = "sampling/createMessage"
ELICIT = "elicitation/create"
ROOTS = "roots/list"

# The parameter that ``Mcp-Name`` mirrors (2026-07-28, Streamable HTTP; tasks: the tasks extension).
NAMED_BY: Mapping[str, str] = {
    TOOLS_CALL: "name",
    PROMPTS_GET: "name",
    RESOURCES_READ: "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}

# --- the envelope ----------------------------------------------------------------------------

Id = int | str


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """The ``error`` member. ``data`` UNSET: absent."""

    code: int
    message: str = ""
    data: Any = UNSET


class Envelope(msgspec.Struct):
    """Any JSON-RPC 2.0 message. A request has ``method`` and ``id``, a notification ``method`` only, an
    answer ``result`` or ``error``. ``id`` None is JSON null, UNSET is absent."""

    jsonrpc: str = ""
    id: Id | UnsetType | None = UNSET
    method: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET


class ProgressParams(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """Of a notification of progress; with nothing else in it."""

    progress_token: Id
    progress: Any = UNSET
    total: Any = UNSET
    message: Any = UNSET


class Progressed(msgspec.Struct, forbid_unknown_fields=True):
    """A notification of progress, read and written at once: most of what is streamed is that."""

    jsonrpc: Literal["2.0"]
    method: Literal["notifications/progress"]
    params: ProgressParams


_json = msgspec.json.Encoder()
_progressed = msgspec.json.Decoder(Progressed)
_sorted = msgspec.json.Encoder(order="deterministic")
_envelope = msgspec.json.Decoder(Envelope)
_envelopes = msgspec.json.Decoder(list[Envelope])
_object = msgspec.json.Decoder(dict[str, Any] | None)


def decode(data: bytes) -> list[Envelope]:
    """The messages in one body, event or line: one, or a batch (JSON-RPC batches: 2025-03-26 only).
    Raises ValueError for what is not JSON-RPC."""
    try:
        if not data.isascii():
            must_be_text(data)
        if data.startswith(b"{") or data[:16].lstrip()[:1] != b"[":
            return [_envelope.decode(data)]
        return _envelopes.decode(data)
    except UNREADABLE as e:
        raise ValueError(str(e)) from e


def answer(data: bytes, id: Id) -> Envelope | None:
    """The answer to the request ``id`` in a body, as ``decode`` reads it; None without one. An error that
    names another request, or none, is for the one that it answers."""
    try:
        for message in decode(data):
            if message.method is UNSET:
                if message.id == id and type(message.result) is Raw:
                    return message
                if message.error is not UNSET:
                    return message
    except ValueError:
        pass
    return None


def progressed(data: bytes) -> Progressed:
    """A notification of progress. Raises msgspec.DecodeError for any other message."""
    return _progressed.decode(data)


def fields(raw: Raw | UnsetType) -> dict[str, Any]:
    """The object in ``params`` or ``result``; {} when absent or null. Raises ValueError for another type."""
    if isinstance(raw, UnsetType):
        return {}
    try:
        return _object.decode(raw) or {}
    except UNREADABLE as e:
        raise ValueError(str(e)) from e


def encode(value: Any) -> bytes:
    """JSON, compact."""
    return _json.encode(value)


class Spliced(msgspec.Struct, frozen=True):
    """JSON in pieces, for what is large: it is put together once, with the envelope."""

    pieces: tuple[bytes, ...]


Result = Raw | Spliced | dict[str, Any]  # of a request, as a door gives it


def with_member(value: Mapping[str, Any], key: str, item: bytes) -> Spliced:
    """The object with one member more, whose JSON is there already."""
    others = _json.encode(value)[:-1]
    return Spliced((others, b"," if value else b"", _json.encode(key), b":", item, b"}"))


def encode_request(id: Id, method: str, params: Any = None) -> bytes:
    """A request. ``params``: an object, Raw, or None for none."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": id, "method": method}
    if params is not None:
        message["params"] = params
    return _json.encode(message)


def encode_notification(method: str, params: Any = None) -> bytes:
    """A notification."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if params is not None:
        message["params"] = params
    return _json.encode(message)


def result_before(id: Id | None) -> bytes:
    """What comes before the result in a successful answer."""
    return b'{"jsonrpc":"2.0","id":%b,"result":' % _json.encode(id)


def encode_result(id: Id | None, result: Any) -> bytes:
    """A successful answer; ``result`` an object, Raw or Spliced."""
    if type(result) is Raw:
        return b"".join((b'{"jsonrpc":"2.0","id":', _json.encode(id), b',"result":', result, b"}"))
    if type(result) is Spliced:
        return b"".join((b'{"jsonrpc":"2.0","id":', _json.encode(id), b',"result":', *result.pieces, b"}"))
    return _json.encode({"jsonrpc": "2.0", "id": id, "result": result})


def encode_error(id: Id | None, code: int, message: str, data: Any = UNSET) -> bytes:
    """An error answer; ``id`` None where the request's could not be read."""
    body: dict[str, Any] = {"code": code, "message": message}
    if data is not UNSET:
        body["data"] = data
    return _json.encode({"jsonrpc": "2.0", "id": id, "error": body})


class KeptMeta(dict[str, Any]):
    """The ``_meta`` that many requests have. It is never changed; ``sent`` is what the last link made of it,
    and of what."""

    __slots__ = ("sent",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.sent: tuple[object, object, object, bytes] = None, None, None, b""


class RpcError(Exception):
    """A JSON-RPC error, as an upstream sent it or as a face will send it. ``data`` UNSET: absent.

    From an upstream nothing is taken out yet: codes 0 and -32603 may carry crash text (``crash``).
    """

    def __init__(self, code: int, message: str, data: Any = UNSET) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    @property
    def crash(self) -> bool:
        """Whether the words may not reach a client."""
        return self.code in CRASH_CODES


# --- between the two halves of a relay -------------------------------------------------------

OnNotification = Callable[[str, dict[str, Any]], Awaitable[None]]
OnRequest = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
OnPrimed = Callable[[], Awaitable[None]]
OnHangUp = Callable[[float], Awaitable[None]]
OnLarge = Callable[[AsyncGenerator[bytes]], Awaitable[bool]]
AtOnce = Callable[[Sequence[bytes]], bool]


class Caller(msgspec.Struct, frozen=True):
    """On whose behalf a request goes upstream.

    ``session`` is the downstream session's key, unguessable and unique to its principal (None: a client
    without sessions). ``client_capabilities`` and ``client_info`` are the client's own: they go upstream as
    they are. ``on_notification(method, params)`` gets what the server sends while the call runs (progress
    with the caller's own progressToken, logging, …); ``on_request(method, params)`` answers what it asks
    (sampling, elicitation, roots) with a result or raises RpcError; without it: -32601.
    ``protocol_version``: the client's revision, offered to handshake servers (None: the newest).
    ``on_primed()``: the call's answer comes as a stream that can be taken up again, so the client's may as
    well; ``on_hang_up(retry)``: the server ended the call's stream before the answer, to be asked again after
    ``retry`` seconds: the gateway does, and the client may be let go as well. ``on_large(pieces)`` passes on
    a large result as it comes: the pieces are those of the JSON-RPC message from the result on; False: it is
    wanted as a whole. ``at_once(messages)`` sends notifications of progress, ready for the caller, where
    nothing has to be waited for; False: none was sent.
    """

    trace: Trace = Trace()
    principal: Principal = Principal()
    session: str | None = None
    client_capabilities: dict[str, Any] = {}
    client_info: dict[str, Any] | None = None
    on_notification: OnNotification | None = None
    on_request: OnRequest | None = None
    protocol_version: str | None = None
    on_primed: OnPrimed | None = None
    on_hang_up: OnHangUp | None = None
    on_large: OnLarge | None = None
    at_once: AtOnce | None = None

    @property
    def interactive(self) -> bool:
        """Whether the client can be asked something."""
        return not INTERACTIVE.isdisjoint(self.client_capabilities)

    @property
    def can_be_asked(self) -> str:
        """All that the client said about what it can be asked; equal for clients that said the same."""
        said = {key: self.client_capabilities[key] for key in INTERACTIVE & self.client_capabilities.keys()}
        return _sorted.encode(said).decode() if said else ""


INTERACTIVE = frozenset({"elicitation", "sampling", "roots"})


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """What a server offers, each item as it came, unknown fields included."""

    protocol_version: str
    era: Era
    server_info: dict[str, Any] = {}
    capabilities: dict[str, Any] = {}
    instructions: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    prompts: tuple[dict[str, Any], ...] = ()
    resources: tuple[dict[str, Any], ...] = ()
    resource_templates: tuple[dict[str, Any], ...] = ()

    def tool(self, name: str) -> dict[str, Any] | None:
        """The tool of this name."""
        return next((tool for tool in self.tools if tool.get("name") == name), None)


def objects(value: Any) -> tuple[dict[str, Any], ...]:
    """The objects in a JSON array; what is none is left out (one broken item must not hide the others)."""
    if not isinstance(value, list | tuple) and (
        not isinstance(value, Sequence) or isinstance(value, str | bytes)
    ):
        return ()
    items = cast("Sequence[dict[str, Any]]", value)
    return tuple([item for item in items if isinstance(item, dict)])  # pyright: ignore[reportUnnecessaryIsInstance]
