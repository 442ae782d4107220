"""The gateway's signature on the cards that it serves, and its public key (specification 1.0.1, section 8.4).

An agent's own signature would not hold: the gateway's card has other URLs. So it is left off, and the
gateway, which has verified it, signs in its own name.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from ....gateway.errors import InvalidRequest
from ....gateway.ports import Engine
from ..canonical import forms
from ..codec import Malformed
from ..wire import JWKS_PATH, Json

if TYPE_CHECKING:
    from ..signing import Key

log = logging.getLogger("agentgw.a2a")
SPACE = "a2a.signing"  # of the durable items, and what the key is sealed for
_REMEMBERED = 1000
_encode = msgspec.json.Encoder(order="deterministic").encode


class Signer:
    """Signs cards. The key is made at first use and kept, sealed, among the durable items."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._key: Key | None = None
        self._loading = asyncio.Lock()
        self._known: dict[bytes, list[dict[str, str]]] = {}  # per card, by digest: a card is signed once

    async def signed(self, card: Json, base_url: str) -> dict[str, Any]:
        """``card`` with the gateway's signatures, one for each form that readers look for, and no others.
        ``base_url``: how the reader reaches the gateway, and so its key. A card that has no canonical form
        stays without."""
        bare = {k: x for k, x in card.items() if k != "signatures"}
        digest = hashlib.sha256(_encode([base_url, bare])).digest()
        signatures = self._known.get(digest)
        if signatures is None:
            made = await self._sign(bare, base_url + JWKS_PATH)
            if len(self._known) >= _REMEMBERED:
                self._known.pop(next(iter(self._known)))
            signatures = self._known.setdefault(digest, made)  # another request may have been faster
        return {**bare, "signatures": signatures} if signatures else bare

    async def _sign(self, card: Json, jku: str) -> list[dict[str, str]]:
        key = await self._ready()
        try:
            # In a thread: the gateway's own card may tell of thousands of agents.
            return await asyncio.to_thread(lambda: [key.signature(payload, jku) for payload in forms(card)])
        except Malformed as e:
            log.debug("a card is left unsigned: %s", e)
            return []

    async def keys(self) -> bytes:
        """The public key as a JSON Web Key Set."""
        return _encode({"keys": [(await self._ready()).jwk]})

    async def _ready(self) -> Key:
        async with self._loading:
            if self._key is None:
                self._key = await self._stored() or await self._made()
            return self._key

    async def _stored(self) -> Key | None:
        from ..signing import Key  # cryptography: loaded for the first card

        sealed = (await self._engine.items.all(SPACE)).get("key")
        if sealed is None:
            return None
        try:
            return Key.load(self._engine.sealer.unseal(sealed.decode(), SPACE))
        except (InvalidRequest, ValueError):
            log.warning("the key that signs agent cards can't be read any more: a new one is made")
            await self._engine.items.remove(SPACE, "key")
            return None

    async def _made(self) -> Key:
        from ..signing import Key

        key = Key.new()
        sealed = self._engine.sealer.seal(key.dump(), SPACE)
        kept = await self._engine.items.first(SPACE, "key", sealed.encode())
        return Key.load(self._engine.sealer.unseal(kept.decode(), SPACE))
