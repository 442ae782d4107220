"""Tokens of an issuer, whatever they and the issuer say: let in or refused, never a crash or a hang."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

from agentgw.gateway.access import Access, Grant
from agentgw.gateway.config import Auth
from agentgw.gateway.errors import Unauthenticated, UpstreamTimeout
from agentgw.gateway.issuer import IssuedTokens
from agentgw.gateway.rates import Rates
from agentgw.gateway.transport import Reply

from ..support.examples import examples
from .clock import Loop
from .malformed import ODD, Pick, damaged, document, junk, picking, text, tree, write

ISSUER, PUBLIC = "https://id.example/realm", "https://gw.example"
AUTH = Auth(
    issuer=ISSUER,
    audience=("agents",),
    admin_scope="admin",
    scopes={"talk": ("talk",), "all": ("*",)},
)
PRIVATE: dict[str, Any] = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "PS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
OTHERS = [
    ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key()),
    ECAlgorithm.to_jwk(PRIVATE["ES256"]),  # it shows what nobody should see
    RSAAlgorithm.to_jwk(rsa.generate_private_key(public_exponent=3, key_size=1024).public_key()),
    json.dumps({"kty": "OKP", "crv": "X25519", "x": "A" * 43}),
    json.dumps({"kty": "oct", "k": "c2VjcmV0"}),
    json.dumps({"kty": "RSA", "e": "AQAB", "n": "_" * 40_000}),
    json.dumps({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
]


def jwk(algorithm: str) -> dict[str, Any]:
    kinds = {"ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
    made = kinds.get(algorithm, RSAAlgorithm).to_jwk(PRIVATE[algorithm].public_key())
    return {**json.loads(made), "kid": algorithm, "use": "sig", "alg": algorithm}


KEYS = {name: jwk(name) for name in PRIVATE}
OPENID = f"{ISSUER}/.well-known/openid-configuration"
METADATA = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}
JWKS = {"keys": [*KEYS.values(), *map(json.loads, OTHERS)]}
CLAIMS = {
    "iss": ISSUER, "sub": "ann", "aud": ["agents", f"{PUBLIC}/mcp/talk"], "exp": int(time.time()) + 36_000,
    "nbf": int(time.time()) - 5, "iat": int(time.time()) - 5, "scope": "talk admin", "jti": "1",
}  # fmt: skip


class World:
    """An issuer that answers with these documents (None: never), and a log that is listened to."""

    def __init__(self, answers: Mapping[str, bytes | None]) -> None:
        self.answers = answers

    async def request(self, method: str, url: str, *, timeout: float, **_: Any) -> Reply:
        body = self.answers.get(url, b"")
        if body is None:
            await asyncio.sleep(timeout)
            raise UpstreamTimeout("the issuer did not answer in time")
        return Reply(200 if body else 404, (), body)

    def judged(self, *them: bytes) -> list[Grant | None]:
        """What the tokens grant; None: refused, in the way that is right."""
        told: list[logging.LogRecord] = []
        crashes: list[Any] = []
        watch = logging.Handler()
        watch.emit = told.append
        root, loop = logging.getLogger(), Loop()
        loop.set_exception_handler(lambda _, context: crashes.append(context))
        root.addHandler(watch)
        try:
            return loop.run_until_complete(self._judged(them))
        finally:
            root.removeHandler(watch)
            loop.close()
            assert not crashes
            for record in told:
                assert record.exc_info is None and record.levelno <= logging.WARNING, record.getMessage()
                assert len(record.getMessage()) < 2000

    async def _judged(self, them: Iterable[bytes]) -> list[Grant | None]:
        tokens = IssuedTokens(AUTH, PUBLIC, self)  # type: ignore[arg-type]
        access = Access("owner", issuer=tokens)
        try:
            return [await self._met(access, token) for token in them]
        finally:
            await tokens.aclose()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                await task

    async def _met(self, access: Access, token: bytes) -> Grant | None:
        try:
            grant = await access.issued(b"Bearer " + token)
        except Unauthenticated as refused:
            assert 0 < len(refused.message) < 200
            return None
        access.tick()
        sound(grant)
        return grant


def sound(grant: Grant) -> None:
    """Who was let in is a principal like any other."""
    assert time.time() < grant.until < math.inf
    msgspec.json.encode((grant.principal.id, grant.principal.name, sorted(grant.principal.agents or ())))
    assert grant.principal.id.startswith(f"{ISSUER}#") and grant.principal.id.isprintable()
    Rates(1.0).take(grant.principal.id)


GOOD = {OPENID: write(METADATA), f"{ISSUER}/keys": write(JWKS)}


def signed(head: bytes, claims: bytes, algorithm: str) -> bytes:
    """A token of these parts, whatever they are."""
    said = base64url_encode(head) + b"." + base64url_encode(claims)
    made = jwt.api_jws.PyJWS().get_algorithm_by_name(algorithm)
    return said + b"." + base64url_encode(made.sign(said, PRIVATE[algorithm]))


def head_of(algorithm: str) -> dict[str, Any]:
    return {"alg": algorithm, "kid": algorithm, "typ": "at+jwt"}


def token(pick: Pick) -> bytes:
    algorithm = pick(list(PRIVATE))
    head, claims = head_of(algorithm), dict(CLAIMS)
    match pick(["head", "claims", "claims", "claims", "bytes", "signature"]):
        case "head":
            return signed(document(head, pick), write(claims), algorithm)
        case "claims":
            return signed(write(head), document(claims, pick), algorithm)
        case "bytes":
            return damaged(signed(write(head), write(claims), algorithm), pick)
        case _:
            return signed(write(head), write(claims), algorithm).rpartition(b".")[0] + b"." + pick(
                [b"", b"AAAA", b"=", junk(pick), text(pick).encode(), b"A" * 70_000]
            )  # fmt: skip


@st.composite
def tokens(draw: st.DrawFn) -> bytes:
    return token(picking(draw))


@st.composite
def issuers(draw: st.DrawFn) -> dict[str, bytes | None]:
    """What it answers, for better or worse: its description, its keys, or one of them."""
    pick = picking(draw)
    answers: dict[str, bytes | None] = dict(GOOD)
    match pick(["metadata", "keys", "key", "key", "silent"]):
        case "metadata":
            answers[OPENID] = document(METADATA, pick)
        case "keys":
            answers[f"{ISSUER}/keys"] = document(JWKS, pick)
        case "key":
            broken = tree(KEYS[pick(list(KEYS))], pick)
            answers[f"{ISSUER}/keys"] = b'{"keys":[%b]}' % write(broken)
        case _:
            answers[pick(list(answers))] = None
    return answers


def test_good_ones_are_let_in() -> None:
    """What the strategies begin with is in order."""
    for algorithm in PRIVATE:
        [grant] = World(GOOD).judged(signed(write(head_of(algorithm)), write(CLAIMS), algorithm))
        assert grant is not None and grant.principal.admin and grant.principal.agents == {"talk"}


@pytest.mark.parametrize("claim", [*CLAIMS, "scp"])
def test_any_value_of_a_claim(claim: str) -> None:
    head = write(head_of("ES256"))
    World(GOOD).judged(*(signed(head, write({**CLAIMS, claim: odd}), "ES256") for odd in ODD))


@pytest.mark.parametrize("name", ["alg", "kid", "typ", "b64", "crit", "jwk", "zip"])
def test_any_value_in_a_head(name: str) -> None:
    World(GOOD).judged(
        *(signed(write({**head_of("ES256"), name: odd}), write(CLAIMS), "ES256") for odd in ODD)
    )


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_any_value_in_a_key(algorithm: str) -> None:
    good = signed(write(head_of(algorithm)), write(CLAIMS), algorithm)
    for name in KEYS[algorithm]:
        for odd in ODD:
            keys = write({"keys": [{**KEYS[algorithm], name: odd}]})
            World({**GOOD, f"{ISSUER}/keys": keys}).judged(good)


def test_whatever_a_token_says() -> None:
    @examples(200)
    @given(tokens())
    def comes_in(token: bytes) -> None:
        World(GOOD).judged(token)

    comes_in()


def test_whatever_an_issuer_says() -> None:
    @examples(150)
    @given(issuers(), st.sampled_from(list(PRIVATE)), st.booleans())
    def answers(said: dict[str, bytes | None], algorithm: str, named: bool) -> None:
        head = head_of(algorithm)
        if not named:
            del head["kid"]
        World(said).judged(signed(write(head), write(CLAIMS), algorithm))

    answers()
