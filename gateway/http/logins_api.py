"""Logging in to agents at the admin API: the two steps of ``agents login``, and logout. For the owner."""

from __future__ import annotations

import msgspec
from litestar import post
from litestar.params import FromPath, JSONBody

from ..control import AgentInfo, LoginAsked, LoginBegun
from .asking import Ask, owned


class LoginAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``pending``: as the first step gave it; ``answer``: the query that came to the redirect URI."""

    pending: str
    answer: dict[str, str]


@post("/api/agents/{name:str}/login", summary="Begin to log in to an agent", status_code=200)
async def agents_login(request: Ask, name: FromPath[str], data: JSONBody[LoginAsked]) -> LoginBegun:
    """The URL for the owner's browser."""
    return await owned(request, name).begin_login(name, data)


@post("/api/agents/{name:str}/login/finish", summary="Finish it", status_code=200)
async def agents_login_finish(request: Ask, name: FromPath[str], data: JSONBody[LoginAnswer]) -> AgentInfo:
    """With what came back to the redirect URI."""
    return await owned(request, name).finish_login(name, data.pending, data.answer)


@post("/api/agents/{name:str}/logout", summary="Forget an agent's tokens", status_code=200)
async def agents_logout(request: Ask, name: FromPath[str]) -> AgentInfo:
    return await owned(request, name).logout(name)


HANDLERS = (agents_login, agents_login_finish, agents_logout)
