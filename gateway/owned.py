"""Ids that say whose they are, so that nothing needs to be kept for each: UUIDs of version 8 (RFC 9562, 5.8),
60 random bits and a keyed digest of them and of the principal (60 bits).

Who changes one, or has another's, has an id that nobody has issued. The secret of the digest lies sealed in
the store: it outlasts restarts and ``seal rotate``, and all processes of a gateway have the same.
"""

from __future__ import annotations

import logging
from hashlib import blake2b
from hmac import compare_digest
from os import urandom

from .errors import InvalidRequest
from .seal import Sealer
from .store import StoredItems

log = logging.getLogger("agentgw.engine")

SPACE, _KEY = "gateway.ids", "secret"
_LENGTH, _HEAD = 36, 19  # characters: of an id, of its random part
_DIGEST = 8  # bytes


class OwnedIds:
    """``load`` has the secret; until then it is one of this object alone."""

    def __init__(self) -> None:
        self._keyed = blake2b(key=urandom(32), digest_size=_DIGEST)

    async def load(self, items: StoredItems, sealer: Sealer) -> None:
        """The secret from the store, made at the first time. One that can't be opened any more (another data
        directory's keys) is replaced: what was issued before is nobody's then."""
        kept = (await items.all(SPACE)).get(_KEY)
        if kept is None:
            new = sealer.seal(urandom(32), SPACE).encode()
            kept = await items.first(SPACE, _KEY, new)
        try:
            secret = sealer.unseal(kept.decode(), SPACE)
        except InvalidRequest:
            log.warning("the secret of ids can't be read any more: a new one is made")
            secret = urandom(32)
            await items.put(SPACE, _KEY, sealer.seal(secret, SPACE).encode())
        self._keyed = blake2b(key=secret, digest_size=_DIGEST)

    def new(self, principal: str) -> str:
        """An id that is this principal's."""
        digits = urandom(8).hex()
        return self._whole(f"{digits[:8]}-{digits[8:12]}-8{digits[12:15]}-", principal)

    def are(self, id: str, principal: str) -> bool:
        """Whether the id was issued to this principal: in lower case, as ``new`` gives it."""
        return may_be(id) and compare_digest(self._whole(id[:_HEAD], principal).encode(), id.encode())

    def _whole(self, head: str, principal: str) -> str:
        keyed = self._keyed.copy()
        keyed.update(f"{head}{principal}".encode())
        digits = keyed.hexdigest()
        return f"{head}8{digits[:3]}-{digits[3:15]}"


def may_be(id: str) -> bool:
    """Whether the id has the form of those that are issued here: all others are somebody else's."""
    return len(id) == _LENGTH and id[14] == "8"
