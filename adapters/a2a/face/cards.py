"""Serving agent cards, signed, with what caches need (specification 1.0.1, sections 8.4 and 8.6)."""

from __future__ import annotations

import hashlib
from email.utils import formatdate
from typing import Any

import msgspec

from ....gateway.http.request import Request
from ....gateway.ports import AgentView, Engine
from ..card import (
    as_v03,
    fresh_card,
    grpc_interface,
    hybrid,
    raw_card,
    relayed_card,
    speaks_only_10,
    with_interfaces,
    with_schemes,
)
from ..wire import OLD_CARD_PATH, V03, V10, Version, version_of
from .heads import OWN
from .ownagent import OwnAgent
from .signer import Signer

_encode = msgspec.json.Encoder(order="deterministic").encode
_REMEMBERED = 1000
_KEPT = 64  # cards as bytes: the gateway's own tells of all agents


# The agent, the revision, the base URL, and of the gateway's own card: which agents it tells of.
_Which = tuple[str, Version | None, str, frozenset[str] | None]


class _Served(msgspec.Struct, frozen=True):
    """A card as it is sent. ``of``: what it was made of, which never changes itself."""

    of: tuple[object, ...]
    body: bytes
    etag: str
    since: str

    def tells_of(self, those: tuple[object, ...]) -> bool:
        return all(a is b for a, b in zip(self.of, those, strict=True))


class Cards:
    """Makes and serves the cards of all agents."""

    def __init__(self, engine: Engine, signer: Signer) -> None:
        self._engine = engine
        self._signer = signer
        self._own = OwnAgent(engine)
        self._changed: dict[_Which, tuple[str, str]] = {}  # per card: ETag, and when it was first seen
        self._kept: dict[_Which, _Served] = {}

    async def serve(self, request: Request, agent: str, path: str) -> None:
        """Raises UnknownAgent."""
        asked = request.header(b"a2a-version") or request.query.get("A2A-Version")
        version = V03 if path == OLD_CARD_PATH else version_of(asked) if asked else None
        served = await self._served(request, agent, version)
        headers = [
            (b"etag", served.etag.encode()),
            (b"last-modified", served.since.encode()),
            (b"cache-control", b"private, max-age=60"),
            (b"vary", b"A2A-Version, Authorization"),
        ]
        if request.header(b"if-none-match") == served.etag:
            await request.respond(304, headers=headers)
        else:
            await request.respond(200, served.body, headers=headers)

    async def keys(self, request: Request) -> None:
        """The key that the cards are signed with."""
        headers = [(b"cache-control", b"public, max-age=300")]
        await request.respond(200, await self._signer.keys(), headers=headers)

    async def _served(self, request: Request, agent: str, version: Version | None) -> _Served:
        """The card, made again only when what it tells of is another."""
        if agent == OWN:
            view, reached = None, request.principal.agents
            of = (self._engine.agents(request.principal), self._engine.access.schemes)
        else:
            view, reached = await self._engine.described(agent, request.principal), None
            of = (view.record, view.agent, self._engine.access.schemes)
        key = (agent, version, request.base_url, reached)
        served = self._kept.pop(key, None)
        if served is None or not served.tells_of(of):
            card = self._card(request, view, version)
            body = _encode(await self._signer.signed(card, request.base_url))
            etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            served = _Served(of, body, etag, self._since(key, etag))
        self._kept[key] = served
        if len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]
        return served

    def _card(self, request: Request, view: AgentView | None, version: Version | None) -> dict[str, Any]:
        """``view`` None: the gateway's own."""
        only_10, own = False, "" if view is None else view.name
        if view is None:
            url = f"{request.base_url}/"
            card = self._own.card(request.principal)
        else:
            url = f"{request.base_url}/a2a/{view.name}/"
            raw = raw_card(view.agent.extra) if view.agent and view.record.protocol == "a2a" else None
            only_10 = raw is not None and speaks_only_10(raw)
            if raw is None:
                card = fresh_card(view.name, view.description, view.agent)
            else:
                card = relayed_card(raw, view.name, view.description)
        card = with_schemes(card, self._engine.access.schemes)
        if version == V03:
            return as_v03(card, url)
        card = with_interfaces(card, url, grpc_interface(self._engine.config.server, request.base_url, own))
        return card if only_10 or version == V10 else hybrid(card, url)

    def _since(self, key: _Which, etag: str) -> str:
        known = self._changed.get(key)
        if known is None or known[0] != etag:
            if len(self._changed) >= _REMEMBERED:
                self._changed.pop(next(iter(self._changed)))
            known = self._changed[key] = (etag, formatdate(usegmt=True))
        return known[1]
