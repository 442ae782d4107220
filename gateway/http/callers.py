"""Who asks: what the credential of a request grants, and what somebody without one is told."""

from __future__ import annotations

import contextlib

from ..access import Access, Grant
from ..errors import Forbidden, Unauthenticated
from ..ports import Face
from . import resource
from .heads import Head
from .mounts import Mounts
from .refusals import refuse
from .request import Request


class Callers:
    """``access`` knows who may come in; ``issuer``: the URL of who issues tokens that are good, too, "" for
    nobody."""

    def __init__(self, access: Access, issuer: str, mounts: Mounts) -> None:
        self._access = access
        self._issuer = issuer
        self._mounts = mounts

    async def granted(self, request: Request, head: Head) -> Grant | None:
        """What the request may do, noted in its head, too; None: it was refused."""
        authorization = head.fields.get(b"authorization")
        try:
            grant = self._access.grant(authorization)
        except Unauthenticated:
            try:
                grant = await self._access.issued(authorization)
            except Unauthenticated as e:
                return await self._unknown(request, authorization, e)
        if grant.wanting:
            return await self._wanting(request, grant)
        head.grant = grant
        return grant

    async def _wanting(self, request: Request, grant: Grant) -> Grant | None:
        """What a token may do that reaches no agent: what somebody without one may, and what is no door's.
        Where it reaches some, agents that it does not reach are unknown, and no scope is named for them: that
        would tell which agents there are."""
        face, _ = await self._mounts.door(request, read=False)
        if face is None:
            return grant
        if _public(face, request):
            return self._access.public
        request.principal = grant.principal
        error = Forbidden("the token's scopes reach no agent here")
        await refuse(request, error, face, resource.wanting(request, self._issuer, grant.wanting))
        return None

    async def _unknown(
        self, request: Request, authorization: bytes | None, error: Unauthenticated
    ) -> Grant | None:
        """How somebody without a bearer token comes in all the same. The body is not read, for nobody knows
        who sent it."""
        face, _ = await self._mounts.door(request, read=False)
        if face is None and _is_console(request):
            with contextlib.suppress(Unauthenticated):
                return self._access.password(authorization)
        if authorization is None and face is not None and _public(face, request):
            return self._access.public
        challenges = resource.challenges(request, face is None and _is_console(request), self._issuer)
        await refuse(request, error, face, challenges)
        return None

    def may_control(self, request: Request) -> None:
        """The control plane is for admins; while callers need no key, they may look and call (what changes
        something asks again). Raises Forbidden."""
        if self._access.closed and not request.principal.admin:
            raise Forbidden("this needs an admin key: agentgw keys create NAME --admin makes one")


def _public(face: Face, request: Request) -> bool:
    """Whether anybody may have it."""
    public = getattr(face, "public", None)  # a third party's may have none
    return public is not None and public(request)


def _is_console(request: Request) -> bool:
    return request.path == "/" and request.method in ("GET", "HEAD")
