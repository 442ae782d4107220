"""An authorization server, and a guard that lets only its tokens through to an agent."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import httpx

HOP = {"host", "connection", "content-length", "transfer-encoding", "keep-alive"}


class Handler(BaseHTTPRequestHandler):
    server: Any
    protocol_version = "HTTP/1.0"

    def _any(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.body = self.rfile.read(length)
        parts = urlsplit(self.path)
        self.route, self.query = parts.path, dict(_pairs(parts.query))
        try:
            self.server.serve(self)
        except (BrokenPipeError, ConnectionResetError):
            pass

    do_GET = do_POST = do_DELETE = _any

    def answer(self, status: int, value: Any = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(b"" if value is None else json.dumps(value).encode())

    def log_message(self, *args: Any) -> None:
        pass


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(key, values[0]) for key, values in parse_qs(text, keep_blank_values=True).items()]


@contextmanager
def listening(serve: Any) -> Iterator[str]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.serve = serve
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Token:
    client: str
    ends: float
    scope: str
    resource: str


@dataclass
class AuthServer:
    """``clients``: ids and secrets ("" for a public one). ``lifetime``: seconds of an access token.
    ``forms``: the token requests; what was issued stays in ``issued``. ``signs``: makes access tokens that
    others can check, with what it shows as ``keys``."""

    clients: dict[str, str] = field(default_factory=dict)
    lifetime: float = 3600.0
    down: bool = False
    registers: bool = True
    iss: str | None = "own"  # what the redirect says: its own issuer, another, None
    metadata_paths: tuple[str, ...] = ("/.well-known/oauth-authorization-server",)
    more: dict[str, Any] = field(default_factory=dict)  # of its metadata
    signs: Callable[[Token], str] | None = None
    keys: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    access: dict[str, Token] = field(default_factory=dict)
    refresh: dict[str, Token] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    forms: list[dict[str, str]] = field(default_factory=list)
    authorizations: list[dict[str, str]] = field(default_factory=list)
    registrations: list[dict[str, Any]] = field(default_factory=list)
    issued: set[str] = field(default_factory=set)
    reused: bool = False  # whether a refresh token came twice
    lock: Any = field(default_factory=threading.Lock)

    @contextmanager
    def running(self) -> Iterator[AuthServer]:
        with listening(self._serve) as self.url:
            yield self

    def good(self, token: str) -> bool:
        known = self.access.get(token)
        return known is not None and known.ends > time.time()

    def expire(self) -> None:
        """Every access token has ended; refresh tokens hold."""
        with self.lock:
            self.access.clear()

    def revoke(self) -> None:
        with self.lock:
            self.access.clear()
            self.refresh.clear()

    def _serve(self, http: Handler) -> None:
        if self.down:
            http.answer(503)
        elif http.route in self.metadata_paths:
            http.answer(200, self._metadata())
        elif http.route == "/authorize":
            self._authorize(http)
        elif http.route == "/register" and self.registers:
            self._register(http)
        elif http.route == "/token":
            with self.lock:
                self._token(http)
        elif http.route == "/keys":
            http.answer(200, self.keys)
        elif http.route == "/introspect":
            token = dict(_pairs(http.body.decode())).get("token", "")
            known = self.access.get(token)
            answer = {"active": self.good(token)}
            if known is not None:
                answer |= {"client_id": known.client, "scope": known.scope, "aud": known.resource}
            http.answer(200, answer)
        elif http.route == "/revoke":
            token = dict(_pairs(http.body.decode())).get("token", "")
            self.access.pop(token, None)
            self.refresh.pop(token, None)
            http.answer(200)
        else:
            http.answer(404)

    def _metadata(self) -> dict[str, Any]:
        own = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "revocation_endpoint": f"{self.url}/revoke",
            "jwks_uri": f"{self.url}/keys",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": self.iss is not None,
        }
        if self.registers:
            own["registration_endpoint"] = f"{self.url}/register"
        return own | self.more

    def _register(self, http: Handler) -> None:
        asked = json.loads(http.body)
        self.registrations.append(asked)
        client = f"client-{len(self.registrations)}"
        self.clients[client] = ""
        http.answer(201, {**asked, "client_id": client})

    def _authorize(self, http: Handler) -> None:
        asked = http.query
        self.authorizations.append(asked)
        if asked.get("client_id") not in self.clients and not asked.get("client_id", "").startswith("https:"):
            return http.answer(400, {"error": "unauthorized_client"})
        if asked.get("code_challenge_method") != "S256" or not asked.get("code_challenge"):
            return http.answer(400, {"error": "invalid_request"})
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        found = {"code": code, "state": asked["state"]}
        if self.iss is not None:
            found["iss"] = self.url if self.iss == "own" else self.iss
        return http.answer(302, None, location=f"{asked['redirect_uri']}?{urlencode(found)}")

    def _token(self, http: Handler) -> None:
        form = dict(_pairs(http.body.decode()))
        client, secret = form.get("client_id", ""), form.get("client_secret", "")
        basic = http.headers.get("authorization", "")
        if basic.startswith("Basic "):
            pair = base64.b64decode(basic[6:]).decode().partition(":")
            client, secret = unquote(pair[0]), unquote(pair[2])
        self.forms.append({**form, "client_id": client})
        if self.clients.get(client, "" if client.startswith("https:") else None) != secret:
            words = f"no client {client} with the secret {secret}"  # a server that talks too much
            return http.answer(401, {"error": "invalid_client", "error_description": words})
        kind = form.get("grant_type")
        if kind == "client_credentials":
            return self._issue(http, client, form.get("scope", ""), form.get("resource", ""), renew=False)
        if kind == "authorization_code":
            asked = self.codes.pop(form.get("code", ""), None)
            challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
            if (
                asked is None
                or asked["client_id"] != client
                or asked["redirect_uri"] != form["redirect_uri"]
                or asked["code_challenge"] != challenge.decode().rstrip("=")
            ):
                return http.answer(400, {"error": "invalid_grant"})
            return self._issue(http, client, asked.get("scope", ""), form.get("resource", ""), renew=True)
        if kind == "refresh_token":
            old = self.refresh.pop(form.get("refresh_token", ""), None)  # each is good for one use
            if old is None:
                self.reused = self.reused or form.get("refresh_token") in self.issued
                return http.answer(400, {"error": "invalid_grant"})
            return self._issue(http, client, old.scope, old.resource, renew=True)
        return http.answer(400, {"error": "unsupported_grant_type"})

    def _issue(self, http: Handler, client: str, scope: str, resource: str, *, renew: bool) -> None:
        kept = Token(client, time.time() + self.lifetime, scope, resource)
        access = self.signs(kept) if self.signs else f"access-{secrets.token_urlsafe(16)}"
        self.access[access] = kept
        self.issued.add(access)
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": int(self.lifetime)}
        if renew:
            answer["refresh_token"] = f"refresh-{secrets.token_urlsafe(16)}"
            self.refresh[answer["refresh_token"]] = kept
            self.issued.add(answer["refresh_token"])
        http.answer(200, answer)


@dataclass
class Guard:
    """Stands before an agent: who comes without a good token is told where to get one. ``seen``: the
    Authorization of each request."""

    peer: str
    server: AuthServer
    url: str = ""
    resource: str | None = None
    hint: bool = True  # whether a refusal says where the metadata is
    seen: list[str | None] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Guard]:
        with listening(self._serve) as self.url:
            yield self

    def _serve(self, http: Handler) -> None:
        place = "/.well-known/oauth-protected-resource"
        if http.route.startswith(place):
            path = http.route.removeprefix(place)
            about = {
                "resource": self.resource or f"{self.url}{path}",
                "authorization_servers": [self.server.url],
            }
            return http.answer(200, about)
        given = http.headers.get("authorization")
        self.seen.append(given)
        if given is None or not self.server.good(given.removeprefix("Bearer ")):
            more = f', resource_metadata="{self.url}{place}{http.route}"' if self.hint else ""
            return http.answer(401, None, www_authenticate=f'Bearer error="invalid_token"{more}')
        return self._pass(http)

    def _pass(self, http: Handler) -> None:
        passed_on(http, self.peer, self.url)


def passed_on(http: Handler, peer: str, url: str) -> None:
    """Hand a request on to the agent at ``peer``, and its answer back as it comes."""
    headers = {k: v for k, v in http.headers.items() if k.lower() not in HOP}
    with httpx.stream(
        http.command, peer + http.path, headers=headers, content=http.body, timeout=60
    ) as reply:
        http.send_response(reply.status_code)
        for name, value in reply.headers.items():
            if name not in HOP | {"content-encoding"}:
                http.send_header(name, value)
        http.end_headers()
        if "well-known" in http.path:  # a card names the proxy, not what is behind it
            http.wfile.write(reply.read().replace(peer.encode(), url.encode()))
            return
        for chunk in reply.iter_bytes():
            http.wfile.write(chunk)
            http.wfile.flush()


@dataclass
class Tap:
    """Stands before an agent and notes all that is sent to it."""

    peer: str
    url: str = ""
    seen: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Tap]:
        with listening(self._serve) as self.url:
            yield self

    def _serve(self, http: Handler) -> None:
        self.seen.append(f"{http.path}\n{http.headers}\n{http.body.decode('utf-8', 'replace')}")
        passed_on(http, self.peer, self.url)


@dataclass
class Trap:
    """Nobody should ever come here. ``answer``: what whoever does is told; ``seen``: who did."""

    answer: Any = None
    url: str = ""
    seen: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Trap]:
        with listening(self._serve) as self.url:
            yield self

    def _serve(self, http: Handler) -> None:
        self.seen.append(f"{http.command} {http.path}\n{http.headers}")
        http.answer(200, self.answer)
