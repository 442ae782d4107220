"""What the checks look at, gathered once: nothing is changed, no lock is taken, and whatever can't be had is
left out, for the checks to say so."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from ... import __version__
from ...gateway.access import SPACE
from ...gateway.config import Config
from ...gateway.control import AgentInfo, GatewayInfo, KeyInfo
from ...gateway.errors import ConfigError, GatewayError, UpstreamError, for_operator
from ...gateway.issuerkeys import openid_url
from ...gateway.model import Record
from ...gateway.transport import Transport
from ...registry import lock, records
from ...registry.sqlite import SqliteStore
from .. import owner
from ..client import Gateway
from ..configuration import read
from ..find import Target, find, is_loopback, transport
from ..local import local_control
from ..process import loopback_url
from ..terminal import Stop

T = TypeVar("T")
PATIENCE = 10.0  # seconds for one answer of the gateway
AT_ONCE = 2.0  # seconds for whoever listens on a port of this machine


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway that answers. ``ready``: what /readyz says; ``info`` None: ``refused`` says why."""

    url: str
    ready: Mapping[str, str] = {}
    info: GatewayInfo | None = None
    refused: str = ""


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """The issuer of ``[auth]``: why it can't be asked, "" where it can; its clock, seconds since 1970."""

    mistake: str = ""
    clock: float | None = None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """``mistake``, ``unanswered``, ``unreadable``: why there is no configuration (all are defaults then),
    gateway, store. ``locked``: a process has the data directory, ``holder`` as it calls itself. ``foreign``:
    the gateway is one elsewhere. ``port``: whoever listens where ours would, "" for nobody. ``keys``: how
    many there are, None where nobody may know; how many of them have ``ended``."""

    environ: Mapping[str, str] = {}
    home: Path
    version: str = __version__
    now: float = 0.0
    file: str = ""
    config: Config = Config()
    mistake: str = ""
    warnings: Sequence[str] = ()
    owner: owner.Owner | None = None
    alive: bool = False
    locked: bool = False
    holder: lock.Holder | None = None
    running: Running | None = None
    foreign: bool = False
    unanswered: str = ""
    port: str = ""
    stored: Sequence[Record] = ()
    unreadable: str = ""
    agents: Sequence[AgentInfo] = ()
    keys: int | None = None
    ended: int = 0
    issuer: Issuer | None = None

    @property
    def blind(self) -> bool:
        """Whether it is not known which agents and keys there are, nor who can call."""
        return self.running is None and bool(self.mistake or self.unreadable or self.unanswered)

    @property
    def records(self) -> Sequence[Record]:
        """The agents that the next start has here: those of the configuration file win."""
        found = {record.name: record for record in self.stored}
        for name, entry in self.config.agents.items():
            found[name] = records.of_file(name, entry, quiet=True)
        return [found[name] for name in sorted(found)]

    @property
    def reached(self) -> GatewayInfo:
        """What says who can call: of the running gateway, else what the next start would take."""
        if self.running is not None and self.running.info is not None:
            return self.running.info
        server = self.config.server
        return GatewayInfo(
            version=self.version,
            host=server.host,
            public_url=server.public_url,
            hosts=server.hosts,
            allow_anonymous=server.allow_anonymous,
            issuer=self.config.auth.issuer,
        )


async def gather(file: str | None, environ: Mapping[str, str]) -> Facts:
    """Everything. Never raises for what is wrong."""
    home = owner.home()
    here = owner.read(home)
    facts = Facts(
        environ=environ,
        home=home,
        now=time.time(),
        file=file or environ.get("AGENTGW_CONFIG", ""),
        owner=here,
        alive=here is not None and owner.alive(here),
        locked=lock.taken(home),
        holder=lock.holder(home),
        foreign=not is_loopback(environ.get("AGENTGW_URL") or "http://127.0.0.1"),
    )
    try:
        config, warnings = read(file)
        facts = _with(facts, config=config, warnings=warnings)
    except ConfigError as e:
        facts = _with(facts, mistake=e.message)
    facts = _stored(facts)
    async with transport() as http:
        try:
            target = await find(http)
        except Stop as e:
            facts, target = _with(facts, unanswered=e.message), None
        facts = await (_asked(facts, http, target) if target is not None else _unasked(facts, http))
        if facts.config.auth.issuer:
            facts = _with(facts, issuer=await _issuer(facts.config, http))
    return facts


def _with(facts: Facts, **more: object) -> Facts:
    return msgspec.structs.replace(facts, **more)


def _stored(facts: Facts) -> Facts:
    """What the data directory holds, read beside whoever owns it."""
    try:
        stored, _ = SqliteStore.read_registry(facts.home)
        keys = SqliteStore.read_items(facts.home, SPACE)
    except ConfigError as e:
        return _with(facts, unreadable=for_operator(e))
    return _with(facts, stored=stored, keys=len(keys))


async def _asked(facts: Facts, http: Transport, target: Target) -> Facts:
    """What the running gateway says."""
    gateway = Gateway(http, target)
    running = Running(url=target.url, ready=await _ready(http, target.url))
    facts = _with(facts, keys=None)
    try:
        info = await _got(gateway, "/gateway", GatewayInfo)
        agents = await _got(gateway, "/agents", list[AgentInfo])
        facts = _with(facts, agents=agents, running=_running(running, info=info))
    except (GatewayError, Stop) as e:
        return _with(facts, running=_running(running, refused=e.message))
    try:
        return _counted(facts, await _got(gateway, "/keys", list[KeyInfo]))
    except (GatewayError, Stop):  # not everybody may know of keys
        return facts


def _running(running: Running, **more: object) -> Running:
    return msgspec.structs.replace(running, **more)


def _counted(facts: Facts, keys: Sequence[KeyInfo]) -> Facts:
    return _with(facts, keys=len(keys), ended=sum(key.state != "active" for key in keys))


async def _got(gateway: Gateway, path: str, kind: type[T]) -> T:
    body = await gateway.request("GET", path, timeout=PATIENCE)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError:
        raise Stop("its answers are not understood") from None


async def _ready(http: Transport, url: str) -> Mapping[str, str]:
    try:
        reply = await http.request("GET", f"{url}/readyz", timeout=PATIENCE)
        return msgspec.json.decode(reply.body, type=dict[str, str])
    except (UpstreamError, msgspec.DecodeError):
        return {}


async def _unasked(facts: Facts, http: Transport) -> Facts:
    """What there is while no gateway runs: health as it was last known, and the port that ours would take."""
    if facts.foreign:
        return facts
    if not (facts.mistake or facts.unreadable):
        try:
            async with local_control(facts.config, reading=True) as here:
                facts = _with(facts, agents=await here.list_agents())
                facts = _counted(facts, await here.list_keys())
        except GatewayError as e:
            facts = _with(facts, unreadable=for_operator(e))
    server = facts.config.server
    if facts.mistake or facts.locked or not server.port:
        return facts
    return _with(facts, port=await _at(http, loopback_url(server.host, server.port), server.port))


async def _at(http: Transport, url: str, port: int) -> str:
    """Who listens there; "" for nobody."""
    host = url.removeprefix("http://").rpartition(":")[0].strip("[]")
    try:
        socket.create_connection((host, port), AT_ONCE).close()
    except OSError:
        return ""
    try:
        reply = await http.request("GET", f"{url}/healthz", timeout=AT_ONCE)
    except UpstreamError:
        return "another program"
    return "another gateway" if reply.body == b'{"status":"ok"}' else "another program"


async def _issuer(config: Config, http: Transport) -> Issuer:
    """Whether the issuer can be asked, and what time it has (RFC 9110, section 6.6.1)."""
    from email.utils import parsedate_to_datetime

    url = config.auth.jwks_url or openid_url(config.auth.issuer)
    try:
        reply = await http.request("GET", url, timeout=PATIENCE)
    except UpstreamError as e:
        return Issuer(mistake=e.message.replace("the agent", url))
    try:
        clock = parsedate_to_datetime(reply.header("date") or "").timestamp()
    except ValueError:
        clock = None
    # Issuers that are no OpenID providers describe themselves elsewhere (RFC 8414).
    unfit = reply.status != 200 and (bool(config.auth.jwks_url) or reply.status >= 500)
    return Issuer(mistake=f"{url} answers with HTTP {reply.status}" if unfit else "", clock=clock)
