"""An OIDC issuer: it describes itself, shows and rotates its keys, signs tokens, good ones and others."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "agents"
CLIENT, SECRET = "host", "its-secret"


@functools.cache
def _key(kid: str, algorithm: str) -> Any:
    """One of this name: making it takes longer than most tests do."""
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Issuer:
    """``seen``: the paths that were asked for. ``scopes``: what the client may have."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[str] = []
        self.asked: list[dict[str, str]] = []  # token requests
        self.keys: dict[str, tuple[str, Any]] = {}
        self.down = False
        self.says: dict[str, Any] = {}  # of itself, otherwise than it is
        self.extra_keys: list[dict[str, Any]] = []
        self.rotate("rsa-1", "RS256")

    def rotate(self, kid: str, algorithm: str) -> None:
        """From now on there is this key alone."""
        self.keys.clear()
        self.add(kid, algorithm)

    def add(self, kid: str, algorithm: str) -> None:
        self.keys[kid] = algorithm, _key(kid, algorithm)

    def jwks(self) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        for kid, (algorithm, key) in self.keys.items():
            kind: Any = ECAlgorithm if algorithm == "ES256" else RSAAlgorithm
            found.append({**json.loads(kind.to_jwk(key.public_key())), "kid": kid, "use": "sig"})
        return {"keys": [*found, *self.extra_keys]}

    def token(
        self, *, key: Any = None, algorithm: str = "", headers: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A good token for ``AUDIENCE``, but for what is said otherwise (None: left out)."""
        kid = list(self.keys)[-1]
        known = self.keys[kid]
        now = int(time.time())
        said = {"iss": self.url, "sub": "ann", "aud": AUDIENCE, "iat": now, "exp": now + 600, **claims}
        said = {name: value for name, value in said.items() if value is not None}
        heads = {"kid": kid, "typ": "at+jwt", **(headers or {})}
        heads = {name: value for name, value in heads.items() if value is not None}
        return jwt.encode(said, known[1] if key is None else key, algorithm or known[0], headers=heads)

    # --- HTTP --------------------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator[Issuer]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.seen.append(self.path)
                self.answer(*issuer.got(self.path))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                self.answer(*issuer.posted({name: values[0] for name, values in parse_qs(body).items()}))

            def answer(self, status: int, value: Any) -> None:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(value).encode())

            def log_message(self, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def got(self, path: str) -> tuple[int, Any]:
        if self.down:
            return 503, {}
        if path in ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"):
            return 200, {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "response_types_supported": ["code"],
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
                **self.says,
            }
        return (200, self.jwks()) if path == "/keys" else (404, {})

    def posted(self, form: dict[str, str]) -> tuple[int, Any]:
        self.asked.append(form)
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        token = self.token(sub=CLIENT, aud=form.get("resource", AUDIENCE), scope=form.get("scope", ""))
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": 600}
