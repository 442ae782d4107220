"""Push notification configurations on the wire, in every revision and binding. Pure.

1.0 has one flat object, which also names its task; 0.3 wraps the configuration and calls the task ``id`` when
it asks for one. HTTP+JSON of 0.3 is written after its protobuf definition, as in ``rest03``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from .codec import Malformed, as_object, list_at, object_at, text_at
from .wire import V03, V10, Json, Op, Version

LONGEST = 4096  # characters of a URL, a token or credentials
INLINE = {V10: "taskPushNotificationConfig", V03: "pushNotificationConfig"}
_VISIBLE = re.compile(r"[\x20-\x7e]*")  # what may stand in a header
_SCHEME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]*")  # RFC 9110, section 5.6.2


class PushConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the news of a task go, and how the caller shows who it is. ``token`` and ``credentials`` are the
    client's secrets. 1.0 knows one scheme; 0.3 several, of which the first is used."""

    url: str
    id: str = ""
    token: str = ""
    schemes: tuple[str, ...] = ()
    credentials: str = ""

    def headers(self) -> list[tuple[str, str]]:
        """What a notification carries to be believed (specification 1.0.1, sections 4.3.3 and 13.2)."""
        made: list[tuple[str, str]] = []
        if self.token:
            made.append(("x-a2a-notification-token", self.token))
        if self.schemes and self.credentials:
            made.append(("authorization", f"{self.schemes[0]} {self.credentials}"))
        return made


# --- reading -----------------------------------------------------------------------------------


def inline_config(params: Json, v: Version) -> PushConfig | None:
    """The configuration in a message's parameters. Raises Malformed."""
    value = object_at(object_at(params, "configuration") or {}, INLINE[v])
    return None if value is None else _config_from(value, v)


def create_from(params: Json, v: Version) -> PushConfig:
    """The configuration in the parameters of a creation. Raises Malformed."""
    if v == V10:
        return _config_from(params, v)
    return _config_from(as_object(params.get("pushNotificationConfig"), "pushNotificationConfig"), v)


def task_of(op: Op, params: Json, v: Version) -> str:
    """The id of the task that an operation on configurations is about. Raises Malformed. 1.0's readers know
    field names in snake case, too (ProtoJSON), and the conformance suite writes this one so."""
    key = "taskId" if v == V10 or op is Op.PUSH_CREATE else "id"
    task_id = text_at(params, key) or text_at(params, "task_id")
    if not task_id:
        raise Malformed(f"{key} is required")
    return task_id


def config_id_of(op: Op, params: Json, v: Version) -> str:
    """Which configuration is meant; empty (where 0.3 asks for one): the task's first. Raises Malformed."""
    key = "id" if v == V10 else "pushNotificationConfigId"
    config_id = text_at(params, key) or ""
    if not config_id and (v == V10 or op is Op.PUSH_DELETE):
        raise Malformed(f"{key} is required")
    return config_id


def _config_from(wire: Json, v: Version) -> PushConfig:
    authentication = object_at(wire, "authentication") or {}
    if v == V10:
        schemes = [text_at(authentication, "scheme") or ""]
    else:
        schemes = [s for s in list_at(authentication, "schemes") if isinstance(s, str)]
    config = PushConfig(
        url=_text(wire, "url"),
        id=_text(wire, "id"),
        token=_text(wire, "token"),
        schemes=tuple(s for s in schemes if s),
        credentials=_text(authentication, "credentials"),
    )
    if not config.url:
        raise Malformed("url is required")
    if " " in config.url:
        raise Malformed("url must not have spaces")
    if not all(_SCHEME.fullmatch(s) for s in config.schemes):
        raise Malformed("an authentication scheme must be the name of one")
    if sum(map(len, config.schemes)) > LONGEST:
        raise Malformed(f"the authentication schemes are longer than {LONGEST} characters")
    return config


def _text(wire: Json, key: str) -> str:
    """A string that is fit for a header."""
    value = text_at(wire, key) or ""
    if len(value) > LONGEST:
        raise Malformed(f"{key} is longer than {LONGEST} characters")
    if not _VISIBLE.fullmatch(value):
        raise Malformed(f"{key} has characters that can't be sent")
    return value


# --- writing -----------------------------------------------------------------------------------


def config_to(task_id: str, config: PushConfig, v: Version) -> dict[str, Any]:
    """The configuration of a task, as results show it."""
    wire: dict[str, Any] = {"id": config.id, "url": config.url}
    if config.token:
        wire["token"] = config.token
    if config.schemes or config.credentials:
        schemes = {"scheme": "".join(config.schemes[:1])} if v == V10 else {"schemes": list(config.schemes)}
        wire["authentication"] = schemes | ({"credentials": config.credentials} if config.credentials else {})
    if v == V10:
        return {"taskId": task_id, **wire}
    return {"taskId": task_id, "pushNotificationConfig": wire}


def configs_to(task_id: str, configs: list[PushConfig], v: Version) -> Any:
    """All configurations of a task: in 0.3 a bare array."""
    made = [config_to(task_id, c, v) for c in configs]
    return made if v == V03 else {"configs": made}


def unpushed(params: Json, v: Version, *, wait: bool) -> dict[str, Any]:
    """A message's parameters without the configuration, for the agent: the webhook is between the client and
    the gateway. ``wait`` False: and to be answered as soon as the task exists."""
    configuration = {k: x for k, x in (object_at(params, "configuration") or {}).items() if k != INLINE[v]}
    if not wait:
        configuration |= {"returnImmediately": True} if v == V10 else {"blocking": False}
    rest = {k: x for k, x in params.items() if k != "configuration"}
    return rest | {"configuration": configuration} if configuration else rest


# --- HTTP+JSON ---------------------------------------------------------------------------------


def rest_params(op: Op, fields: Json, ids: Mapping[str, str], v: Version) -> dict[str, Any]:
    """An operation's parameters in JSON-RPC's form: what the path names (``id``: the task's, ``config``: the
    configuration's) with the fields of body and query."""
    if op is Op.PUSH_CREATE:
        return {**fields, "taskId": ids["id"]} if v == V10 else _create_from_rest03(fields, ids["id"])
    task, config = ("taskId", "id") if v == V10 else ("id", "pushNotificationConfigId")
    named = {config: ids["config"]} if "config" in ids else {}
    return {**fields, task: ids["id"], **named}


def _create_from_rest03(body: Json, task_id: str) -> dict[str, Any]:
    """A creation's body in JSON-RPC's form: ``{parent, configId, config: {name, pushNotificationConfig}}``,
    the inner object alone, or JSON-RPC's own form; in camel or snake case."""
    outer = _at(body, "config", "config")
    config = _at(outer or body, "pushNotificationConfig", "push_notification_config")
    made = {k: x for k, x in (config or {}).items() if x not in ("", None)}
    config_id = body.get("configId") or body.get("config_id")
    if "id" not in made and config_id:
        made["id"] = config_id
    return {"taskId": task_id, "pushNotificationConfig": made}


def _at(wire: Json, *names: str) -> dict[str, Any] | None:
    for name in names:
        if isinstance(wire.get(name), Mapping):
            return cast("dict[str, Any]", wire[name])
    return None


def to_rest03(value: Any) -> dict[str, Any]:
    """A result in JSON-RPC's form, after the protobuf definition."""
    if value is None:
        return {}
    if isinstance(value, list):
        return {"configs": [to_rest03(x) for x in cast("list[Any]", value)]}
    config = value["pushNotificationConfig"]
    name = f"tasks/{value['taskId']}/pushNotificationConfigs/{config['id']}"
    return {"name": name, "pushNotificationConfig": config}
