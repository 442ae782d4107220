"""``agents login``: the authorization code grant with PKCE (RFC 6749, 7636), in two steps.

The first makes the URL that the user opens, the second takes what came back to the redirect URI. In between,
whoever asks keeps what the second step must know, sealed: it is not this process's alone to remember.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode, urlsplit

import msgspec

from ..gateway.control import LoginAsked, LoginBegun
from ..gateway.errors import BadUpstream, GatewayError, InvalidRequest
from ..gateway.model import Record
from ..gateway.seal import Sealer
from ..gateway.transport import Transport
from . import references
from .authservers import Discovery, Found
from .logins import Login, Logins, address_of
from .tokenendpoint import TIMEOUT, Method, ask

log = logging.getLogger("agentgw.registry")
PURPOSE = "registry.signin"
AGE = 600.0  # seconds from the first step to the second
_DENIED = re.compile(r"[a-z_]{1,40}")


class _Pending(msgspec.Struct, frozen=True, omit_defaults=True):
    agent: str
    login: Login
    state: str
    verifier: str
    redirect_uri: str
    says_issuer: bool = False


class _Registered(msgspec.Struct, frozen=True):
    client_id: str
    client_secret: str = ""
    token_endpoint_auth_method: str = ""


class SignIn:
    """Both steps, and the way out. ``allow``: networks of ``outbound.allow``."""

    def __init__(self, transport: Transport, sealer: Sealer, logins: Logins, allow: Sequence[str]) -> None:
        self._transport = transport
        self._sealer = sealer
        self._logins = logins
        self._allow = allow

    async def begin(self, record: Record, asked: LoginAsked) -> LoginBegun:
        """Raises InvalidRequest for an agent that can't be logged in to, BadUpstream for what its servers
        lack."""
        _check(record, asked)
        found = await Discovery(self._transport, record, self._allow).find()
        login = await self._client(record, asked, found)
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
        digest = hashlib.sha256(verifier.encode()).digest()
        server = found.server
        query = {
            "response_type": "code", "client_id": login.client_id, "redirect_uri": asked.redirect_uri,
            "scope": login.scope, "state": state, "resource": login.resource,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }  # fmt: skip
        joint = "&" if urlsplit(server.authorization_endpoint).query else "?"
        url = server.authorization_endpoint + joint + urlencode({k: x for k, x in query.items() if x})
        says = server.authorization_response_iss_parameter_supported
        pending = _Pending(record.name, login, state, verifier, asked.redirect_uri, says)
        sealed = self._sealer.seal(msgspec.json.encode(pending), PURPOSE)
        return LoginBegun(url=url, state=state, issuer=server.issuer, pending=sealed)

    async def finish(self, record: Record, pending: str, answer: Mapping[str, str]) -> Login:
        """``answer``: the redirect's query. Raises InvalidRequest for one that is not the first step's,
        BadUpstream where the server refuses."""
        asked = msgspec.json.decode(self._sealer.unseal(pending, PURPOSE, max_age=AGE), type=_Pending)
        if asked.agent != record.name or asked.login.url != record.url:
            raise InvalidRequest("the agent is another by now: log in again")
        if not hmac.compare_digest(answer.get("state", "").encode(), asked.state.encode()):
            raise InvalidRequest("what came back does not belong to this login: try again")
        issuer = answer.get("iss")  # RFC 9207, section 2.4
        if issuer != asked.login.issuer and (issuer is not None or asked.says_issuer):
            raise InvalidRequest("the answer comes from another authorization server: nothing was accepted")
        if "error" in answer or not answer.get("code"):
            why = answer.get("error", "")
            raise BadUpstream(
                f"the authorization server refuses ({why if _DENIED.fullmatch(why) else 'no code'})"
            )
        form = {
            "grant_type": "authorization_code", "code": answer["code"], "redirect_uri": asked.redirect_uri,
            "code_verifier": asked.verifier, "resource": asked.login.resource,
        }  # fmt: skip
        client = await self._logins.client(asked.login)
        grant = await ask(self._transport, client, form)
        return msgspec.structs.replace(asked.login, grant=grant)

    async def revoke(self, login: Login) -> None:
        """Tell the server that the tokens are not wanted any more (RFC 7009), if it listens."""
        if login.grant is None or not login.revocation_url:
            return
        try:
            client = await self._logins.client(login)
            address = await address_of(login.revocation_url, login.url, self._allow)
            form = {"token": login.grant.refresh or login.grant.access, "client_id": client.client_id}
            if client.secret:
                form["client_secret"] = client.secret
            await self._transport.request(
                "POST", login.revocation_url, body=urlencode(form).encode(), timeout=TIMEOUT,
                headers=[("content-type", "application/x-www-form-urlencoded")], address=address,
            )  # fmt: skip
        except GatewayError as e:
            log.info("the tokens of a login could not be revoked: %s", e.message)

    # --- who the gateway is ----------------------------------------------------------------------

    async def _client(self, record: Record, asked: LoginAsked, found: Found) -> Login:
        server, scope = found.server, asked.scope or found.scope
        if "offline_access" in server.scopes_supported and "offline_access" not in scope.split():
            scope = f"{scope} offline_access".strip()
        login = Login(
            url=record.url or "",
            issuer=server.issuer,
            token_url=server.token_endpoint,
            revocation_url=server.revocation_endpoint,
            client_id=asked.client_id,
            resource=found.resource,
            scope=scope,
            secret_reference=asked.client_secret,
        )
        if asked.client_id:
            posts = "client_secret_basic" not in server.token_endpoint_auth_methods_supported
            method: Method = "client_secret_post" if posts else "client_secret_basic"
            return msgspec.structs.replace(login, method=method if asked.client_secret else "none")
        before = self._logins.of(record.name)
        if before is not None and before.issuer == server.issuer and asked.redirect_uri in before.redirects:
            return msgspec.structs.replace(
                login, client_id=before.client_id, secret=before.secret, method=before.method,
                redirects=before.redirects,
            )  # fmt: skip
        return await self._registered(login, server.registration_endpoint, asked.redirect_uri)

    async def _registered(self, login: Login, endpoint: str, redirect_uri: str) -> Login:
        """Dynamic client registration (RFC 7591)."""
        if not endpoint:
            raise BadUpstream(
                "the authorization server registers nobody by itself: register agentgw there with the "
                f"redirect URI {redirect_uri} and say --client-id ID"
            )
        wanted = {
            "client_name": "agentgw", "redirect_uris": [redirect_uri], "response_types": ["code"],
            "grant_types": ["authorization_code", "refresh_token"], "token_endpoint_auth_method": "none",
            **({"scope": login.scope} if login.scope else {}),
        }  # fmt: skip
        address = await address_of(endpoint, login.url, self._allow)
        headers = [("content-type", "application/json"), ("accept", "application/json")]
        reply = await self._transport.request(
            "POST", endpoint, headers=headers, body=msgspec.json.encode(wanted), timeout=TIMEOUT,
            address=address,
        )  # fmt: skip
        try:
            if reply.status not in (200, 201):
                raise BadUpstream(
                    f"the authorization server does not register the gateway (HTTP {reply.status})"
                )
            made = msgspec.json.decode(reply.body, type=_Registered)
        except msgspec.MsgspecError as e:
            raise BadUpstream("the authorization server's registration can't be read") from e
        method = made.token_endpoint_auth_method
        if method not in ("client_secret_basic", "client_secret_post"):
            method = "client_secret_basic" if made.client_secret and not method else "none"
        return msgspec.structs.replace(
            login, client_id=made.client_id, secret=made.client_secret, redirects=(redirect_uri,),
            method=msgspec.convert(method, Method),
        )  # fmt: skip


def _check(record: Record, asked: LoginAsked) -> None:
    name = record.name
    if record.url is None:
        raise InvalidRequest(f"{name} is a command: there is nothing to log in to")
    if record.oauth is not None or any(key.lower() == "authorization" for key in record.headers):
        raise InvalidRequest(f"{name} is registered with credentials of its own: register it anew without")
    redirect = urlsplit(asked.redirect_uri)
    if redirect.scheme != "http" or redirect.hostname not in ("127.0.0.1", "::1") or redirect.query:
        raise InvalidRequest("the redirect URI must be of this machine: http://127.0.0.1:PORT/…")
    if asked.client_secret and not references.PATTERN.fullmatch(asked.client_secret):
        raise InvalidRequest("the client secret must be a reference, such as '${CLIENT_SECRET}'")
    if asked.client_secret and not asked.client_id:
        raise InvalidRequest("a client secret goes with a client id")
