"""The front: which door a request goes to, and who may not come in."""

import asyncio
import base64
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from agentgw.cli.process import Gateway
from agentgw.gateway.access import Access, Key
from agentgw.gateway.config import Config, Server
from agentgw.gateway.errors import GatewayError, InvalidRequest
from agentgw.gateway.http.app import App
from agentgw.gateway.http.asgi import AsgiWire
from agentgw.gateway.http.deferred import Deferred
from agentgw.gateway.http.doors import Doors, hostname, only_local
from agentgw.gateway.http.request import Request
from agentgw.gateway.ports import Handler
from agentgw.registry.memory import MemoryStore


class Face:
    """Serves ``/x`` and claims POSTs to ``/`` that say so."""

    def mounts(self) -> Sequence[tuple[str, Handler]]:
        return [("/x", self.serve)]

    def claims(self, request: Request, envelope: Mapping[str, Any] | None) -> bool:
        return bool(envelope and envelope.get("protocol") == "x")

    async def serve(self, request: Request) -> None:
        if request.rest == "/bad":
            raise InvalidRequest("no such thing")
        if request.rest == "/hang":
            await asyncio.Event().wait()
        if request.rest == "/crash":
            raise RuntimeError("secret")
        body = (await request.body()).decode()
        who = request.principal.id
        await request.json(200, {"rest": request.rest, "body": body, "base": request.base_url, "who": who})

    root = serve

    def refusal(self, request: Request, error: GatewayError) -> bytes:
        return f"x:{error.code}".encode()

    def drain(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def control(scope: Any, receive: Any, send: Any) -> None:
    """The control plane: echoes the body, to show that it can still be read."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"control:" + message["body"]})


def app(limit: int = 1000, **doors: Any) -> App:
    doors = {"bind": "127.0.0.1", "public_url": "", **doors}
    return App([Face()], control, Doors(**doors), access=Access("token"), body_limit=limit)


async def ask(
    app: App, path: str, body: bytes = b"", *, method: str = "POST", **headers: str
) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = {"host": "127.0.0.1:8080", **headers}
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])


async def test_the_first_path_segment_is_the_door() -> None:
    status, body = await ask(app(), "/x/a%20b/c", b"hi")
    shown = msgspec.json.decode(body)
    assert (status, shown["rest"], shown["body"]) == (200, "/a b/c", "hi")
    assert shown["base"] == "http://127.0.0.1:8080"
    assert msgspec.json.decode((await ask(app(), "/x"))[1])["rest"] == ""


async def test_what_no_face_takes_is_the_control_planes_with_its_body() -> None:
    assert await ask(app(), "/xy", b"1") == (200, b"control:1")
    assert await ask(app(), "/", b'{"protocol": "y"}') == (200, b'control:{"protocol": "y"}')


async def test_the_bare_address_goes_to_the_face_that_claims_it() -> None:
    status, body = await ask(app(), "/", b'{"protocol": "x"}')
    assert (status, msgspec.json.decode(body)["body"]) == (200, '{"protocol": "x"}')


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8080", "", "localhost:80@evil.example", "localhost:x"]
)
@pytest.mark.parametrize("path", ["/x", "/", "/anything"])
async def test_unknown_host_names_are_turned_away_at_every_door(host: str, path: str) -> None:
    assert (await ask(app(), path, host=host))[0] == 421


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://["]
)
@pytest.mark.parametrize("path", ["/x", "/", "/anything"])
async def test_foreign_origins_are_forbidden_at_every_door(origin: str, path: str) -> None:
    assert (await ask(app(), path, origin=origin))[0] == 403


async def test_names_of_the_configuration_are_let_in() -> None:
    ours = app(
        public_url="https://gw.example/", hosts=["inner", ".corp.example"], origins=["https://app.example"]
    )
    for host in ("gw.example", "inner:99", "a.corp.example", "localhost:1", "[::1]:8080"):
        status, body = await ask(ours, "/x", host=host)
        assert (status, msgspec.json.decode(body)["base"]) == (200, "https://gw.example")
    assert (await ask(ours, "/x", origin="https://app.example"))[0] == 200
    assert (await ask(ours, "/x", origin="https://gw.example"))[0] == 200
    assert (await ask(ours, "/x", host="corp.example"))[0] == 421


@pytest.mark.parametrize(
    "host", ['a",x="y.corp.example', "a<b.corp.example", "a,b.corp.example", "é.corp.example"]
)
async def test_what_stands_in_urls_and_headers_is_a_name_and_nothing_else(host: str) -> None:
    """An answer says under which name the gateway was called: in cards, in WWW-Authenticate."""
    assert (await ask(app(hosts=[".corp.example"]), "/x", host=host))[0] == 421


async def test_errors_are_clear_and_crashes_say_nothing() -> None:
    status, body = await ask(app(), "/x/bad")
    assert (status, body) == (400, b"x:invalid_request")  # in the form of the door's protocol
    status, body = await ask(app(), "/x/crash")
    assert status == 500
    assert b"secret" not in body
    assert (await ask(app(limit=10), "/x", b"x" * 11))[0] == 413


async def test_what_a_shutdown_cuts_off_is_told_so_in_the_door_s_form() -> None:
    ours = app()
    hanging = asyncio.create_task(ask(ours, "/x/hang"))
    await asyncio.sleep(0)
    ours.draining = True
    hanging.cancel()
    assert await hanging == (503, b"x:draining")
    await ours.idle()


async def test_a_draining_gateway_refuses_what_is_new() -> None:
    ours = app()
    ours.draining = True
    assert (await ask(ours, "/x"))[0] == 503
    assert (await ask(ours, "/healthz", method="GET"))[0] == 200


async def test_alive_is_not_ready() -> None:
    answers = [True]
    ours = App([Face()], control, Doors("", ""), access=Access("t"), body_limit=9, ready=lambda: answers[-1])
    assert await ask(ours, "/healthz", method="GET") == (200, b'{"status":"ok"}')
    assert (await ask(ours, "/readyz", method="GET"))[0] == 200
    answers.append(False)
    assert (await ask(ours, "/healthz", method="GET"))[0] == 200
    assert (await ask(ours, "/readyz", method="GET"))[0] == 503


async def test_the_control_plane_is_made_once_when_it_is_first_wanted() -> None:
    made: list[int] = []

    def make() -> Any:
        made.append(1)
        return control

    ours = App([Face()], Deferred(make), Doors("", ""), access=Access("t"), body_limit=9)
    await ask(ours, "/healthz", method="GET")
    await ask(ours, "/x", b"hi")
    assert not made
    answers = await asyncio.gather(*(ask(ours, "/api/agents", b"1") for _ in range(3)))
    assert (answers, made) == ([(200, b"control:1")] * 3, [1])


async def test_the_owner_is_known_by_the_token() -> None:
    async def who(token: str) -> str:
        return msgspec.json.decode((await ask(app(), "/x", authorization=f"Bearer {token}"))[1])["who"]

    assert (await who("token"), await who("other")) == ("owner", "anonymous")
    assert await who("token \t") == "owner"  # httptools leaves the blanks at the end


@pytest.mark.parametrize(
    ("host", "name"), [("a:1", "a"), ("a", "a"), ("[::1]:8080", "::1"), ("[::1]", "::1")]
)
def test_hostname(host: str, name: str) -> None:
    assert hostname(host) == name


async def test_over_asgi_too_a_door_learns_who_left() -> None:
    gone = asyncio.Event()
    messages = asyncio.Queue[dict[str, Any]]()

    async def send(message: Any) -> None:
        pass

    wire = AsgiWire(messages.get, send)
    wire.on_gone(gone.set)
    messages.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(gone.wait(), 60)
    gone.clear()
    wire.on_gone(gone.set)  # later than that
    await asyncio.wait_for(gone.wait(), 60)


async def test_nothing_is_left_of_a_request_over_asgi_that_is_cancelled() -> None:
    before = asyncio.all_tasks()
    watching = asyncio.Event()

    class Waits(Face):
        async def serve(self, request: Request) -> None:
            await request.body()
            request.on_gone(watching.set)
            watching.set()
            await asyncio.Event().wait()

    front = App([Waits()], control, Doors("127.0.0.1", ""), access=Access("token"), body_limit=1000)
    bodies = [{"type": "http.request", "body": b""}]

    async def receive() -> Any:
        return bodies.pop() if bodies else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/x", "query_string": b""}
    headers = [(b"host", b"127.0.0.1")]
    call = asyncio.create_task(front(scope | {"headers": headers}, receive, send))
    await watching.wait()
    call.cancel()
    await asyncio.wait([call])
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


# --- who may come in --------------------------------------------------------------------------------------


class PublicFace(Face):
    """One path of it is for everybody."""

    def public(self, request: Request) -> bool:
        return request.rest == "/open"


def closed(*keys: tuple[str, dict[str, Any]]) -> App:
    """A gateway with these keys, by their secrets."""
    access = Access("owner")
    access.take(
        Key(name=secret, id=secret, hash=sha256(secret.encode()).hexdigest(), **fields)
        for secret, fields in keys
    )
    return App([PublicFace()], control, Doors("127.0.0.1", ""), access=access, body_limit=1000)


def bearer(secret: str) -> dict[str, Any]:
    return {"authorization": f"Bearer {secret}"}


async def test_with_a_key_doors_are_closed_and_say_so_in_their_own_form():
    ours = closed(("k", {}))
    assert await ask(ours, "/x/y") == (401, b"x:unauthenticated")
    assert await ask(ours, "/x/y", **bearer("wrong")) == (401, b"x:unauthenticated")
    status, body = await ask(ours, "/x/y", **bearer("k"))
    assert (status, msgspec.json.decode(body)["who"]) == (200, "key:k")


async def test_who_is_refused_is_not_read():
    ours = closed(("k", {}))
    assert (await ask(ours, "/", b'{"protocol": "x"}'))[0] == 401
    assert (await ask(ours, "/x/y", b"x" * 2000))[0] == 401


async def test_what_is_public_is_answered_to_somebody_without_a_key_but_not_with_a_wrong_one():
    ours = closed(("k", {}))
    status, body = await ask(ours, "/x/open")
    assert (status, msgspec.json.decode(body)["who"]) == (200, "nobody")
    assert (await ask(ours, "/x/open", **bearer("wrong")))[0] == 401


@pytest.mark.parametrize("path", ["/", "/api/agents", "/metrics", "/anything"])
async def test_the_control_plane_is_for_admins(path: str):
    ours = closed(("k", {}), ("adm", {"admin": True}))
    assert (await ask(ours, path, method="GET"))[0] == 401
    assert (await ask(ours, path, method="GET", **bearer("k")))[0] == 403
    assert (await ask(ours, path, method="GET", **bearer("adm")))[0] == 200
    assert (await ask(ours, path, method="GET", **bearer("owner")))[0] == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_need_no_key(path: str):
    assert (await ask(closed(("k", {})), path, method="GET"))[0] == 200


async def test_a_browser_may_send_an_admin_key_as_password_to_the_console_alone():
    ours = closed(("adm", {"admin": True}), ("k", {}))
    basic = {"authorization": "Basic " + base64.b64encode(b"me:adm").decode()}
    assert (await ask(ours, "/", method="GET", **basic))[0] == 200
    assert (await ask(ours, "/api/agents", method="GET", **basic))[0] == 401
    assert (await ask(ours, "/x/y", **basic))[0] == 401
    plain = {"authorization": "Basic " + base64.b64encode(b"me:k").decode()}
    assert (await ask(ours, "/", method="GET", **plain))[0] == 403


async def test_a_refusal_says_how_to_come_in():
    ours = closed(("k", {}))
    assert await challenges(ours, "/x/y") == [b'Bearer realm="agentgw"']
    assert await challenges(ours, "/x/y", **bearer("wrong")) == [
        b'Bearer realm="agentgw", error="invalid_token"'
    ]
    assert await challenges(ours, "/") == [
        b'Bearer realm="agentgw"',
        b'Basic realm="agentgw", charset="UTF-8"',
    ]


async def challenges(app: App, path: str, **headers: str) -> list[bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    listed = [(b"host", b"127.0.0.1"), *((k.encode(), v.encode()) for k, v in headers.items())]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": listed}
    await app(scope, receive, send)
    return [value for name, value in sent[0]["headers"] if name == b"www-authenticate"]


async def test_what_is_open_ends_when_its_key_is_revoked():
    access = Access("owner")
    key = Key(name="k", id="k", hash=sha256(b"k").hexdigest())
    access.take([key])
    gone: list[str] = []
    began = asyncio.Event()

    class Listens(Face):
        async def serve(self, request: Request) -> None:
            await request.body()
            left = asyncio.Event()
            request.on_gone(left.set)
            began.set()
            await left.wait()
            gone.append(request.principal.id)

        def mounts(self) -> Sequence[tuple[str, Handler]]:
            return [("/x", self.serve)]

    ours = App([Listens()], control, Doors("127.0.0.1", ""), access=access, body_limit=1000)
    waiting = asyncio.ensure_future(_listening(ours))
    await began.wait()
    access.tick()
    assert not waiting.done()
    access.take([msgspec.structs.replace(key, revoked_at=1.0)])
    access.tick()
    await asyncio.wait_for(waiting, 60)
    assert gone == ["key:k"]


async def _listening(app: App) -> None:
    messages = [{"type": "http.request", "body": b""}]

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        pass

    headers = [(b"host", b"127.0.0.1"), (b"authorization", b"Bearer k")]
    scope = {"type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": headers}
    await app(scope, receive, send)


@pytest.mark.parametrize(
    ("bind", "public_url", "local"),
    [
        ("127.0.0.1", "", True),
        ("::1", "http://localhost:8080", True),
        ("127.0.0.1", "http://127.0.0.1:8080/agents", True),
        ("127.0.0.1", "https://agents.example", False),
        ("0.0.0.0", "", False),
        ("0.0.0.0", "http://localhost:8080", False),
    ],
)
async def test_who_else_than_this_machine_may_call(bind: str, public_url: str, local: bool) -> None:
    assert only_local(bind, public_url) is local
    server = Server(host=bind, public_url=public_url, allow_anonymous=True)
    gateway = Gateway(Config(server=server), MemoryStore(), bind=bind, token="owner")
    assert gateway.access.grant(None).principal.admin is local
