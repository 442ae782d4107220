"""Everything that can go wrong, as one tree.

    GatewayError                      code
    ├── CallerError                   the client's mistake
    │   ├── InvalidRequest            invalid_request
    │   ├── UnknownAgent              unknown_agent
    │   ├── UnknownTask               unknown_task
    │   ├── UnknownSkill              unknown_skill
    │   ├── NotActive                 not_active        (the task has ended, or does not wait for input)
    │   ├── Unsupported               unsupported
    │   ├── TooLarge                  too_large
    │   ├── HeadTooLarge              head_too_large
    │   ├── TooDeep                   too_deep          (JSON nested past limits.nesting)
    │   ├── Unauthenticated           unauthenticated
    │   └── Forbidden                 forbidden
    ├── UpstreamError                 the agent, or the way to it
    │   ├── Unreachable               upstream_unreachable
    │   │   └── Unconnected           (the same: nothing was sent)
    │   │       ├── NoRoom            (the same: the gateway has too many connections)
    │   │       └── CircuitOpen       circuit_open      (it was not even tried, see breaker)
    │   ├── UpstreamTimeout           upstream_timeout
    │   ├── NeedsAuth                 upstream_unauthorized  (it wants credentials that are not there)
    │   ├── BadUpstream               upstream_invalid  (it does not speak its protocol)
    │   ├── UpstreamFailed            upstream_failed   (it crashed: its words are withheld)
    │   └── AgentError                agent_error       (its own words, meant for the client)
    ├── Draining                      draining          (the gateway is stopping)
    ├── Busy                          busy              (limits.concurrency is reached)
    ├── RateLimited                   rate_limited      (limits.rate is, or a key's own)
    │   └── KeyBusy                   rate_limited      (limits.per_key is)
    └── ConfigError                   config            (the operator's mistake)

Each face has one table from code to its protocol's own error. ``message`` is always safe to show; what
is not (crash texts, paths) goes to ``detail``, which only the debug log sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, ClassVar

from .model import Fault


class GatewayError(Exception):
    """Base of all. ``data`` (JSON) may be shown; ``native`` is the upstream's own error code (see Fault);
    ``operator``: the message for whoever runs the gateway, where that holds what is no client's business."""

    code: ClassVar[str] = "internal"
    operator: str = ""

    def __init__(
        self,
        message: str,
        *,
        data: Any = None,
        native: Mapping[str, Any] | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.data = data
        self.native = native
        self.detail = detail

    def fault(self) -> Fault:
        """The error as it stands in a task."""
        return Fault(code=self.code, message=self.message, data=self.data, native=self.native)


class CallerError(GatewayError):
    """The client asked for something that cannot be."""


class InvalidRequest(CallerError):
    code = "invalid_request"


class UnknownAgent(CallerError):
    code = "unknown_agent"

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown agent: {name}", data={"agent": name})


class UnknownTask(CallerError):
    code = "unknown_task"

    def __init__(self, task_id: str) -> None:
        super().__init__(f"unknown task: {task_id}", data={"task_id": task_id})


class UnknownSkill(CallerError):
    code = "unknown_skill"


class NotActive(CallerError):
    code = "not_active"


class Unsupported(CallerError):
    code = "unsupported"


class TooLarge(CallerError):
    code = "too_large"


class HeadTooLarge(CallerError):
    code = "head_too_large"


class TooDeep(CallerError):
    code = "too_deep"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the JSON is nested deeper than {limit} levels")


class Unauthenticated(CallerError):
    code = "unauthenticated"


class Forbidden(CallerError):
    code = "forbidden"


class UpstreamError(GatewayError):
    """The agent did not deliver."""


class Unreachable(UpstreamError):
    code = "upstream_unreachable"


class Unconnected(Unreachable):
    """No connection came about: nothing was sent, or nothing that must not be sent twice."""


class NoRoom(Unconnected):
    """No connection came about, which is not the agent's fault: too many are open."""


class CircuitOpen(Unconnected):
    """The agent could not be reached several times in a row: for a while it is not tried.
    ``data["retry_after"]``: whole seconds until it is. ``process``: it is one, which keeps ending."""

    code = "circuit_open"

    def __init__(self, agent: str, seconds: float, *, process: bool = False) -> None:
        wait = max(1, ceil(seconds))
        why = "keeps ending; it is started again" if process else "can't be reached; the next try is"
        super().__init__(
            f"{agent} {why} in {wait} s",
            data={"agent": agent, "retry_after": wait},
        )


class UpstreamTimeout(UpstreamError):
    code = "upstream_timeout"


class NeedsAuth(UpstreamError):
    """The agent wants credentials that the gateway does not have, or not any more."""

    code = "upstream_unauthorized"

    def __init__(self, message: str, *, data: Any = None, detail: str = "", operator: str = "") -> None:
        native = {"protocol": "http", "code": 401, "status": 401}
        super().__init__(message, data=data, native=native, detail=detail)
        self.operator = operator and f"{message}: {operator}"


class BadUpstream(UpstreamError):
    code = "upstream_invalid"


class UpstreamFailed(UpstreamError):
    """The agent crashed. The client reads ``{agent} failed``; what it said goes to ``detail``. ``operator``:
    how it crashed."""

    code = "upstream_failed"

    def __init__(
        self,
        agent: str,
        *,
        native: Mapping[str, Any] | None = None,
        detail: str = "",
        operator: str = "",
    ) -> None:
        super().__init__(f"{agent} failed", native=native, detail=detail)
        self.operator = operator and f"{self.message}: {operator}"


class AgentError(UpstreamError):
    """The agent's own answer is an error whose words are meant for the client."""

    code = "agent_error"


class Draining(GatewayError):
    code = "draining"

    def __init__(self) -> None:
        super().__init__("the gateway is stopping; try again in a moment")


class Busy(GatewayError):
    code = "busy"

    def __init__(self) -> None:
        super().__init__("the gateway has too many requests under way; try again in a moment")


class RateLimited(GatewayError):
    """``seconds`` until the next request is taken; ``data``: ``{"retry_after": whole seconds}``."""

    code = "rate_limited"

    def __init__(self, seconds: float) -> None:
        self.retry_after = max(1, ceil(seconds))
        super().__init__(
            f"too many requests; try again in {self.retry_after} s", data={"retry_after": self.retry_after}
        )


class KeyBusy(RateLimited):
    """One key has as many requests under way as it may."""

    def __init__(self) -> None:
        super().__init__(1)
        self.message = "this key has too many requests under way; try again when some of them have ended"


class ConfigError(GatewayError):
    code = "config"
    operator = ""  # also of one that is made from its code alone

    def __init__(
        self,
        message: str,
        *,
        data: Any = None,
        native: Mapping[str, Any] | None = None,
        detail: str = "",
        operator: str = "",
    ) -> None:
        super().__init__(message, data=data, native=native, detail=detail)
        self.operator = operator


def for_operator(error: GatewayError) -> str:
    """What to tell whoever runs the gateway: at the admin API, the command line, in an agent's health."""
    return error.operator or error.message
