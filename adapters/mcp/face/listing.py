"""The lists at ``/mcp``: all agents' offers, made once for as long as none of them changes, as bytes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ....gateway.model import Principal
from ....gateway.ports import AgentView, Engine
from .. import wire
from .offers import Form, Found, Kind, Offer, Offers, key_of

UNAVAILABLE = "agentgw/unavailable"
_REMEMBERED = 8  # principals whose lists are kept


class Page(msgspec.Struct, frozen=True):
    """A list as JSON. ``spans``: where each agent's items stand, if the next page may take them over."""

    body: bytes
    spans: Mapping[Offer, tuple[int, int]]


_Pages = dict[tuple[Kind, Form], Page]


class Listing:
    """What principals are shown who may reach the same agents. Pages are made when they are asked for, out
    of those of the ``former`` listing as far as the agents are the same."""

    def __init__(self, views: Sequence[AgentView], offers: Sequence[Offer], former: Listing | None) -> None:
        self.views = views
        self.offers = offers
        self.settled = False  # some agents are to be asked again
        self.edition = -1
        self._pages: _Pages = {}
        self._former: _Pages = former._pages if former is not None else {}
        self._index: dict[Kind, Mapping[str, Offer]] = {}
        self._patterns: Sequence[tuple[str, re.Pattern[str], Offer]] | None = None

    def stands(self, edition: int) -> bool:
        """Whether no agent is to be asked again. ``edition``: that of the offers now."""
        return self.settled and self.edition == edition

    def page(self, kind: Kind, form: Form = "modern") -> bytes:
        """A JSON array. The same object in the next listing, if it says the same there."""
        key = kind, form
        page = self._pages.get(key)
        if page is None:
            former = self._former.pop(key, None)
            page = made = _page(self.offers, kind, form, former)
            if former is not None and made.body == former.body:
                page = Page(former.body, made.spans)
            self._pages[key] = page
        return page.body

    def unavailable(self) -> dict[str, Any]:
        """The ``_meta`` that names agents which do not answer; their last tools are listed all the same."""
        return unavailable(self.offers)

    # --- looking up --------------------------------------------------------------------------

    def find(self, name: str, kind: Kind) -> Found | None:
        """The owner of a tool or prompt by its name at ``/mcp``."""
        owner = self._owners(kind).get(name)
        return None if owner is None else owner.find(name, kind)

    def find_resource(self, uri: str) -> Offer | None:
        """The owner of a URI: who lists it, else whose template it fits, else the only server there is."""
        owner = self._owners("resources").get(uri)
        if owner is not None:
            return owner
        for template, pattern, offer in self._templates():
            if template == uri or pattern.fullmatch(uri):
                return offer
        servers = [offer for offer in self.offers if offer.server is not None]
        return servers[0] if len(servers) == 1 else None

    def _owners(self, kind: Kind) -> Mapping[str, Offer]:
        """By name or URI; the first owner of one wins."""
        known = self._index.get(kind)
        if known is None:
            known = self._index[kind] = {
                name: offer for offer in reversed(self.offers) for name in offer.named(kind)
            }
        return known

    def _templates(self) -> Sequence[tuple[str, re.Pattern[str], Offer]]:
        if self._patterns is None:
            self._patterns = [(*pattern, offer) for offer in self.offers for pattern in offer.patterns]
        return self._patterns


def unavailable(offers: Sequence[Offer]) -> dict[str, Any]:
    """``Listing.unavailable`` of these."""
    missing = [offer.view.name for offer in offers if not offer.available]
    return {"_meta": {UNAVAILABLE: missing}} if missing else {}


def _page(offers: Sequence[Offer], kind: Kind, form: Form, former: Page | None) -> Page:
    old = memoryview(former.body if former is not None else b"")
    known: Mapping[Offer, tuple[int, int]] = former.spans if former is not None else {}
    pieces: list[bytes | memoryview] = []
    spans: dict[Offer, tuple[int, int]] = {}
    listed: set[str] = set()
    at = 1
    for offer in offers:
        taken = _taken(offer, kind, listed)
        span = None if taken else known.get(offer)
        piece = old[span[0] : span[1]] if span else _encoded(offer, kind, form, taken)
        if not piece:
            continue
        if not taken:
            spans[offer] = (at, at + len(piece))
        at += len(piece) + 1
        pieces.append(piece)
    return Page(b"".join((b"[", b",".join(pieces), b"]")), spans)


def _taken(offer: Offer, kind: Kind, listed: set[str]) -> set[str]:
    """The agent's tools or resources that an agent before it has listed under the same name."""
    if kind == "prompts":
        return set()
    names = offer.named(kind).keys()
    taken = names & listed if not listed.isdisjoint(names) else set[str]()
    listed.update(names)
    return taken


def _encoded(offer: Offer, kind: Kind, form: Form, taken: set[str]) -> bytes:
    items: Iterator[dict[str, Any]] = offer.items(kind, form)
    return wire.encode([item for item in items if not taken or key_of(item, kind) not in taken])[1:-1]


class Lists:
    """Keeps the listing of each principal, as long as nothing that it was made of changes."""

    def __init__(self, engine: Engine, offers: Offers) -> None:
        self._engine = engine
        self._offers = offers
        self._made: dict[str, Listing] = {}

    async def of(self, principal: Principal) -> Listing:
        """What the principal is shown; agents that were never described are waited for in parallel."""
        views = self._engine.agents(principal)
        known = self._made.get(principal.id)
        if known is None or known.views is not views:
            same = (made for made in self._made.values() if made.views is views)
            known = next(same, known)
        if known is not None and known.views is views and known.stands(self._offers.edition):
            return self._keep(principal, known)
        edition = self._offers.edition
        offers = await self._all(views, principal)
        if known is None or known.offers != offers:
            known = Listing(views, offers, known)
        known.views, known.edition = views, edition
        known.settled = all(offer.settled for offer in offers)
        self._offers.forget(views)
        return self._keep(principal, known)

    async def _all(self, views: Sequence[AgentView], principal: Principal) -> list[Offer]:
        found = [self._offers.known(view) for view in views]
        asked = [view for view, offer in zip(views, found, strict=True) if offer is None]
        if asked:
            answers = iter(await asyncio.gather(*(self._offers.one(view, principal) for view in asked)))
            found = [offer or next(answers) for offer in found]
        return [offer for offer in found if offer is not None]

    def _keep(self, principal: Principal, listing: Listing) -> Listing:
        self._made.pop(principal.id, None)
        while len(self._made) >= _REMEMBERED:
            del self._made[next(iter(self._made))]
        self._made[principal.id] = listing
        return listing
