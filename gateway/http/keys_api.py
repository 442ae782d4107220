"""Client keys at the admin API: listed, made, revoked, removed; and the keys that seal."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, JSONBody

from .. import errors
from ..control import AddKey, KeyInfo, NewKey, Rotated
from .asking import Ask, keeper, plane_of, principal_of, tell_about


@get("/api/keys", summary="All client keys")
async def keys_list(request: Ask) -> list[KeyInfo]:
    """Expired and revoked ones too, by name; without their secrets, which nobody keeps."""
    return list(await keeper(request).list_keys())


@post("/api/keys", summary="Make a client key")
async def keys_create(request: Ask, data: JSONBody[AddKey]) -> NewKey:
    """The answer alone holds the secret. Durable, and good at every door, when it answers."""
    control = keeper(request)
    tell_about(request, data.name)
    return await control.create_key(data)


@post("/api/keys/{name:str}/revoke", summary="Have a client key let nobody in any more", status_code=200)
async def keys_revoke(request: Ask, name: FromPath[str]) -> KeyInfo:
    return await keeper(request).revoke_key(name)


@delete("/api/keys/{name:str}", summary="Revoke and forget a client key")
async def keys_remove(request: Ask, name: FromPath[str]) -> None:
    await keeper(request).remove_key(name)


class Keep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``keep``: seconds that the former key still opens."""

    keep: Annotated[float, msgspec.Meta(ge=0)]


@post("/api/seal/rotate", summary="Seal with a new key", status_code=200)
async def seal_rotate(request: Ask, data: JSONBody[Keep]) -> Rotated:
    """Sealed state that clients hold, and secrets in the store. The gateway's owner only."""
    if not principal_of(request).owner:
        raise errors.Forbidden("only the gateway's owner may do this: run agentgw seal rotate on its machine")
    return await plane_of(request).control.rotate_seal(data.keep)


HANDLERS = (keys_list, keys_create, keys_revoke, keys_remove, seal_rotate)
