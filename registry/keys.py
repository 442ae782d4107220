"""Client keys: made, kept as hashes, revoked. Who may come in with them: ``gateway.access``."""

from __future__ import annotations

import asyncio
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256

import msgspec

from ..gateway import names
from ..gateway.access import SPACE, Key, read_keys
from ..gateway.control import AddKey, KeyInfo, NewKey, UnknownKey
from ..gateway.errors import InvalidRequest
from ..gateway.store import Store
from .traces import stamp

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9._@]{0,62}[A-Za-z0-9])?")
_encode = msgspec.json.Encoder().encode


async def _nowhere(keys: Sequence[Key]) -> None: ...


class Keys:
    """The keys in the store. ``changed`` is told of all of them after each change, and waited for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changing = asyncio.Lock()
        self.changed: Callable[[Sequence[Key]], Awaitable[None]] = _nowhere

    async def all(self) -> list[Key]:
        """By name."""
        return read_keys(await self._store.items(SPACE))

    async def list(self) -> Sequence[KeyInfo]:
        return [_info(key) for key in await self.all()]

    async def create(self, spec: AddKey) -> NewKey:
        """Raises InvalidRequest."""
        now = time.time()
        _check(spec, now)
        id = secrets.token_hex(8)
        secret = f"agw_{id}_{secrets.token_urlsafe(32)}"
        key = Key(
            name=spec.name,
            id=id,
            hash=sha256(secret.encode()).hexdigest(),
            agents=None if spec.agents is None else tuple(sorted(set(spec.agents))),
            admin=spec.admin,
            created_at=now,
            expires_at=spec.expires_at,
            rate=spec.rate,
        )
        async with self._changing:
            known = next((k for k in await self.all() if k.name == spec.name), None)
            if known is not None and known.state(now) == "active":
                raise InvalidRequest(
                    f"there is a key named {spec.name} already: choose another name, or revoke it first",
                    data={"name": spec.name, "reason": "name_taken"},
                )
            await self._put(key)
        info = _info(key)
        return NewKey(
            name=key.name,
            id=id,
            secret=secret,
            agents=key.agents,
            admin=key.admin,
            expires_at=info.expires_at,
            rate=key.rate,
        )

    async def revoke(self, name: str) -> KeyInfo:
        """Raises UnknownKey."""
        async with self._changing:
            key = await self._get(name)
            if key.revoked_at is None:
                key = msgspec.structs.replace(key, revoked_at=time.time())
                await self._put(key)
        return _info(key)

    async def remove(self, name: str) -> None:
        """Raises UnknownKey."""
        async with self._changing:
            await self._get(name)
            await self._store.remove_item(SPACE, name)
            await self.changed(await self.all())

    async def _get(self, name: str) -> Key:
        for key in await self.all():
            if key.name == name:
                return key
        raise UnknownKey(name)

    async def _put(self, key: Key) -> None:
        await self._store.put_item(SPACE, key.name, _encode(key))
        await self.changed(await self.all())


def _check(spec: AddKey, now: float) -> None:
    if not _NAME.fullmatch(spec.name):
        raise InvalidRequest(
            f"{spec.name!r} is no name for a key: 1 to 64 letters, digits and -._@, no sign at either end"
        )
    if spec.agents is not None and not spec.agents:
        raise InvalidRequest("a key without any agent is of no use: name some, or leave --agents out for all")
    for agent in spec.agents or ():
        if not names.is_valid(agent):
            raise InvalidRequest(names.complaint(agent))
    if spec.expires_at is not None and spec.expires_at <= now:
        raise InvalidRequest("the key would have expired already: give a time to come")
    if spec.rate is not None and not 0 <= spec.rate < math.inf:
        raise InvalidRequest("a key's rate is a number of requests a second, or 0 for any number")


def _info(key: Key) -> KeyInfo:
    return KeyInfo(
        name=key.name,
        id=key.id,
        agents=key.agents,
        admin=key.admin,
        state=key.state(time.time()),
        created_at=_stamp(key.created_at),
        expires_at=None if key.expires_at is None else _stamp(key.expires_at),
        revoked_at=None if key.revoked_at is None else _stamp(key.revoked_at),
        rate=key.rate,
    )


def _stamp(seconds: float) -> str:
    return stamp(int(seconds * 1e9))
