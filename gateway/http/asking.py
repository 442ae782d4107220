"""Who asks the admin API, and what they may do.

Who asks stands in ``scope["state"]["principal"]``; the front lets admins in, and while callers need no key,
anybody: they may look and call. Who changes something must be an admin. An admin who reaches some agents only
sees and changes those, and no keys.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.params import Parameter

from .. import errors
from ..control import AgentInfo, Control
from ..metrics import Metrics
from ..model import Principal
from ..ports import Engine
from ..reloading import Reloaded

Reload = Callable[[], Awaitable[Reloaded]]
Ask = Request[Any, Any, State]
MOST = 1000
Limit = Annotated[int, Parameter(ge=1, le=MOST, description="How many, the newest first.")]


class Plane(msgspec.Struct, frozen=True):
    """What the handlers work on."""

    control: Any  # a Control, where the handlers are served that ask it
    engine: Engine
    metrics: Metrics
    reload: Reload | None = None


def plane_of(request: Ask) -> Plane:
    """What its application was made of."""
    return request.app.state["plane"]


def principal_of(request: Ask) -> Principal:
    """Who asks."""
    scope: Mapping[str, Any] = request.scope
    return scope["state"]["principal"]


def reached(request: Ask, name: str) -> str:
    """An agent's name, for who looks at it. Raises UnknownAgent where it is not to be known."""
    if not principal_of(request).reaches(name):
        raise errors.UnknownAgent(name)
    return name


def changed_by(request: Ask, name: str) -> str:
    """An agent's name, for who changes it. Raises Forbidden, UnknownAgent."""
    if not (principal_of(request).admin or principal_of(request).owner):
        raise errors.Forbidden("only an admin may change this: the owner's command line, or an admin key")
    return reached(request, name)


def keeper(request: Ask) -> Control:
    """The control plane, for who may know of keys. Raises Forbidden."""
    principal = principal_of(request)
    if not (principal.owner or keyed(principal)):
        raise errors.Forbidden(
            "keys are the business of the owner's command line, and of admin keys for all agents"
        )
    return plane_of(request).control


def keyed(principal: Principal) -> bool:
    """Whether it is an admin key's, for all agents."""
    return principal.admin and principal.agents is None and principal.id != Principal().id


def owned(request: Ask, name: str) -> Control:
    """The control plane, for the gateway's owner. Raises Forbidden."""
    if not principal_of(request).owner:
        raise errors.Forbidden(
            f"only the gateway's owner may do this: run agentgw agents login {name} on its machine"
        )
    return plane_of(request).control


async def listed(request: Ask) -> list[AgentInfo]:
    """The registered agents that the caller reaches, disabled ones too, by name."""
    principal = principal_of(request)
    return [a for a in await plane_of(request).control.list_agents() if principal.reaches(a.name)]


def tell_about(request: Ask, *names: str) -> None:
    """Whom the request is about, where its path does not say so: for the audit log."""
    scope: Mapping[str, Any] = request.scope
    scope["state"]["subject"] = ", ".join(names)
