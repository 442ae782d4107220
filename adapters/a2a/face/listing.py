"""ListTasks (specification 1.0.1, section 3.1.4): filters, order, pages. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ....gateway.model import Task, TaskState
from ..codec import STATE_OF, Malformed, task_to, text_at
from ..params import count_at
from ..wire import Json, Version

DEFAULT_PAGE, LARGEST_PAGE = 50, 100


class Query(msgspec.Struct, frozen=True):
    """What is asked for. ``after``: tasks whose status is of this time or later; ``token``: the last task
    of the page before, as (updated_at, id)."""

    context_id: str | None = None
    state: TaskState | None = None
    size: int = DEFAULT_PAGE
    token: tuple[str, str] | None = None
    history_length: int | None = None
    after: str = ""
    artifacts: bool = False


def query_from(params: Json, v: Version) -> Query:
    """The parameters (values may be a query string's texts). Raises Malformed."""
    size = count_at(params, "pageSize")
    if size is not None and not 1 <= size <= LARGEST_PAGE:
        raise Malformed(f"pageSize must be from 1 to {LARGEST_PAGE}")
    word = text_at(params, "status") or ""
    if word and word not in STATE_OF[v] and word != "TASK_STATE_UNSPECIFIED":
        raise Malformed("status must be the name of a task state")
    return Query(
        context_id=text_at(params, "contextId") or None,
        state=STATE_OF[v].get(word),
        size=size or DEFAULT_PAGE,
        token=_token(text_at(params, "pageToken") or ""),
        history_length=count_at(params, "historyLength"),
        after=_time(text_at(params, "statusTimestampAfter") or ""),
        artifacts=params.get("includeArtifacts") in (True, "true"),
    )


def _time(text: str) -> str:
    """A timestamp in the model's form."""
    if not text:
        return ""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as e:
        raise Malformed("statusTimestampAfter must be an ISO 8601 time") from e
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _token(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    try:
        at, bar, task_id = base64.urlsafe_b64decode(text).decode().partition("|")
    except (binascii.Error, ValueError):
        bar = at = task_id = ""
    if not bar:
        raise Malformed("pageToken is not one that was given out")
    return at, task_id


def page(tasks: Sequence[Task], query: Query) -> tuple[Sequence[Task], dict[str, Any]]:
    """One page of the tasks that fit, most recently updated first; what the answer says beside them."""
    state = query.state
    working = (TaskState.WORKING, TaskState.CANCELING)
    states = working if state is TaskState.WORKING else (state,)
    fit = [t for t in tasks if (state is None or t.state in states) and _key(t)[0] >= query.after]
    fit.sort(key=_key, reverse=True)
    rest = fit if query.token is None else [t for t in fit if _key(t) < query.token]
    shown = rest[: query.size]
    more = len(rest) > len(shown)
    return shown, {
        "nextPageToken": _written(_key(shown[-1])) if more else "",
        "pageSize": query.size,
        "totalSize": len(fit),
    }


def listed(shown: Sequence[Task], query: Query, v: Version) -> dict[str, Any]:
    """The tasks of a page as the answer has them."""
    length, artifacts = query.history_length, query.artifacts
    return {"tasks": [task_to(t, v, history_length=length, artifacts=artifacts) for t in shown]}


def _key(task: Task) -> tuple[str, str]:
    return task.updated_at, task.id


def _written(key: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode("|".join(key).encode()).decode()
