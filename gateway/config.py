"""The configuration's shape. Defaults here and in ``config.toml`` are the same (a test compares them).

Durations are seconds, sizes bytes and rates a second's in the structs; ``config_file`` reads them from text
like ``"5s"``, ``"64MiB"`` and ``"100/s"``.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

Duration = Annotated[float, msgspec.Meta(ge=0, extra_json_schema={"format": "duration"})]
Size = Annotated[int, msgspec.Meta(ge=1, extra_json_schema={"format": "size"})]
Count = Annotated[int, msgspec.Meta(ge=1)]
Depth = Annotated[int, msgspec.Meta(ge=1, le=200)]  # decoders recurse: past some hundreds they give up
Rate = Annotated[float, msgspec.Meta(ge=0, extra_json_schema={"format": "rate"})]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Server(_Section, frozen=True):
    """Where the gateway listens, and under which names it may be called.

    ``hosts`` and ``origins`` add to the loopback names, the bind address and ``public_url``'s host.
    ``port`` 0 takes a free one; ``workers``: how many processes serve. ``grpc_port`` 0: no gRPC; ``grpc_url``
    is how clients reach it, when not under the name that they call the gateway by. ``remote_commands``:
    whether holders of admin keys may register commands, which is to run programs here.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    workers: Annotated[int, msgspec.Meta(ge=1, le=128)] = 1
    grpc_port: Port = 0
    grpc_url: str = ""
    public_url: str = ""
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    allow_anonymous: bool = False
    remote_commands: bool = False


class Limits(_Section, frozen=True):
    """Bounds on time, size and number. ``idle_timeout`` is renewed by every event of the agent. ``rate``:
    requests a second of each principal that has no rate of its own, 0: any number; ``burst``: how many of
    them at once, 0: see ``rates``; ``per_key``: requests of each under way. ``circuit_*``: see ``breaker``.
    """

    connect_timeout: Duration = 5.0
    idle_timeout: Duration = 300.0
    total_timeout: Duration = 3600.0
    handover: Duration = 45.0
    question: Duration = 600.0
    shutdown_grace: Duration = 10.0
    retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 2
    circuit_failures: Annotated[int, msgspec.Meta(ge=0)] = 5
    circuit_pause: Duration = 5.0
    circuit_longest: Duration = 60.0
    body: Size = 64 * 1024 * 1024
    header: Size = 64 * 1024
    nesting: Depth = 100
    concurrency: Count = 1000
    per_agent: Count = 750
    per_key: Count = 750
    rate: Rate = 0.0
    burst: Annotated[int, msgspec.Meta(ge=0)] = 0
    tasks: Count = 10_000


class Outbound(_Section, frozen=True):
    """Networks (CIDR) that URLs found in messages and cards may point at though they are private."""

    allow: tuple[str, ...] = ()


class Tracing(_Section, frozen=True):
    """``sampling``: share of new traces exported; ``spans``: how many the local store keeps (0: none)."""

    sampling: Share = 1.0
    payloads: bool = False
    spans: Annotated[int, msgspec.Meta(ge=0)] = 20_000


class Audit(_Section, frozen=True):
    """Who asked for what. ``file`` "": ``audit.jsonl`` in the data directory; past ``size`` bytes a new one
    is begun, and ``kept`` full ones stay."""

    enabled: bool = True
    file: str = ""
    size: Size = 64 * 1024 * 1024
    kept: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 8


class Auth(_Section, frozen=True):
    """Tokens of an OIDC issuer as credentials; none while ``issuer`` is "". ``audience``: whom tokens must be
    for, beside ``server.public_url``, its doors and their agents; ``scopes``: the agents that each scope
    stands for ("*": all), under "*" those of every token; ``leeway``: how far clocks may be apart."""

    issuer: str = ""
    audience: tuple[str, ...] = ()
    jwks_url: str = ""
    algorithms: tuple[str, ...] = ("RS256", "ES256", "PS256", "EdDSA")
    leeway: Duration = 60.0
    admin_scope: str = ""
    scopes: dict[str, tuple[str, ...]] = {}


class OAuthEntry(_Section, frozen=True):
    """Client credentials for an agent; none while ``token_url`` is "". ``client_secret`` is a reference."""

    token_url: str = ""
    client_id: str = ""
    client_secret: str = ""
    scope: str = ""
    audience: str = ""
    resource: str = ""
    method: Literal["client_secret_basic", "client_secret_post"] = "client_secret_basic"


class AgentEntry(_Section, frozen=True):
    """An agent declared in the file: ``url`` or ``command``."""

    url: str = ""
    command: tuple[str, ...] = ()
    protocol: str = "auto"
    remote: str = ""
    headers: dict[str, str] = {}
    env: dict[str, str] = {}
    cwd: str = ""
    enabled: bool = True
    description: str = ""
    idle_timeout: Duration | None = None
    total_timeout: Duration | None = None
    oauth: OAuthEntry = OAuthEntry()


class Config(_Section, frozen=True):
    """All of it; every key has a default."""

    server: Server = Server()
    limits: Limits = Limits()
    outbound: Outbound = Outbound()
    tracing: Tracing = Tracing()
    audit: Audit = Audit()
    auth: Auth = Auth()
    agents: dict[str, AgentEntry] = {}


def amiss(config: Config) -> str:
    """What of it can't be together, and what to do; "": nothing is amiss."""
    if config.auth.issuer and not (config.auth.audience or config.server.public_url):
        return "auth.issuer wants auth.audience (whom tokens are for), or server.public_url"
    return ""


def offered(auth: Auth) -> tuple[str, ...]:
    """The scopes that a client may ask the issuer for: those that stand for agents and can be named (RFC
    6749, section 3.3)."""
    return tuple(s for s, agents in auth.scopes.items() if s != "*" and agents and _SCOPE.fullmatch(s))


def doubtful(config: Config) -> list[str]:
    """What of it is hardly meant so, one line each: ``serve`` warns of it."""
    found: list[str] = []
    if config.auth.issuer and not config.auth.scopes:
        found.append(
            "auth.scopes is empty: the issuer's tokens reach no agent; say which agents each scope stands "
            'for, or { "*" = ["*"] } for every token to reach all'
        )
    if config.tracing.payloads:
        found.append("tracing.payloads: what is said can't be recorded yet; spans tell only that it was")
    return found
