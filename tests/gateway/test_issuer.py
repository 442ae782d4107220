"""Tokens of an issuer as credentials, checked against a real one."""

import asyncio
import hmac
import json
import time
from hashlib import sha256
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.utils import base64url_encode

from agentgw.cli import process
from agentgw.gateway.access import Access
from agentgw.gateway.config import Auth, Config, Server
from agentgw.gateway.errors import Unauthenticated
from agentgw.gateway.issuer import LONGEST_TOKEN, IssuedTokens
from agentgw.gateway.issuerkeys import AGAIN, STALE
from agentgw.gateway.transport import HttpTransport
from agentgw.registry.memory import MemoryStore

from ..support.issuer import AUDIENCE, Issuer

PUBLIC = "https://gw.example"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer():
    with Issuer().running() as running:
        yield running


@pytest.fixture
async def made(issuer):
    """Makes what checks tokens; ``clock`` goes on by hand."""
    transport, clock = HttpTransport(), Clock()
    all: list[IssuedTokens] = []

    def make(**fields: Any) -> IssuedTokens:
        auth = Auth(**{"issuer": issuer.url, "audience": (AUDIENCE,), "scopes": {"*": ("*",)}, **fields})
        all.append(IssuedTokens(auth, PUBLIC, transport, clock))
        return all[-1]

    make.clock = clock  # type: ignore[attr-defined]
    yield make
    for tokens in all:
        await tokens.aclose()
    await transport.aclose()


@pytest.fixture
def tokens(made):
    return made()


async def principal(tokens: IssuedTokens, token: str):
    return (await tokens.grant(token)).principal


async def test_a_token_is_its_subjects(issuer, tokens):
    found = await tokens.grant(issuer.token(sub="ann", exp=int(time.time()) + 100))
    assert (found.principal.id, found.principal.name) == (f"{issuer.url}#ann", "ann")
    assert (found.principal.agents, found.principal.admin, found.principal.owner) == (None, False, False)
    assert found.holds(time.time() + 90)
    assert not found.holds(time.time() + 200)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256"])
async def test_each_kind_of_key(issuer, tokens, algorithm):
    issuer.rotate("k", algorithm)
    assert (await principal(tokens, issuer.token())).name == "ann"


async def test_the_issuer_rotates_its_keys(issuer, tokens, made):
    old = issuer.token()
    await tokens.grant(old)
    issuer.rotate("ec-2", "ES256")
    new = issuer.token()
    await refuses(tokens, new)  # asked a moment ago
    made.clock.now += AGAIN
    assert (await principal(tokens, new)).name == "ann"
    await refuses(tokens, old)


async def test_tokens_with_unknown_keys_do_not_make_the_gateway_ask_each_time(issuer, tokens, made):
    await tokens.grant(issuer.token())
    asked = issuer.seen.count("/keys")
    made.clock.now += AGAIN
    for n in range(20):
        await refuses(tokens, issuer.token(headers={"kid": f"unknown-{n}"}))
    assert issuer.seen.count("/keys") == asked + 1


async def test_many_first_tokens_ask_once(issuer, tokens):
    await asyncio.gather(*(tokens.grant(issuer.token(sub=f"s{n}")) for n in range(20)))
    assert issuer.seen.count("/keys") == 1


async def test_old_keys_are_fetched_anew_in_the_background(issuer, tokens, made):
    await tokens.grant(issuer.token())
    made.clock.now += STALE + 1
    issuer.add("rsa-2", "RS256")
    await tokens.grant(issuer.token(key=issuer.keys["rsa-1"][1], headers={"kid": "rsa-1"}))
    await asyncio.wait([tokens._keys._fetching])  # pyright: ignore
    assert (await principal(tokens, issuer.token())).name == "ann"
    assert issuer.seen.count("/keys") == 2


async def test_while_the_issuer_is_down_known_keys_are_good(issuer, tokens, made):
    await tokens.grant(issuer.token())
    issuer.down = True
    made.clock.now += STALE + 1
    assert (await principal(tokens, issuer.token(sub="bob"))).name == "bob"


async def test_an_issuer_that_comes_late_is_asked_again(issuer, tokens, made):
    issuer.down = True
    await refuses(tokens, issuer.token())
    issuer.down = False
    made.clock.now += AGAIN
    assert (await principal(tokens, issuer.token())).name == "ann"


async def test_keys_may_be_elsewhere(issuer, made):
    tokens = made(jwks_url=f"{issuer.url}/keys")
    await tokens.grant(issuer.token())
    assert issuer.seen == ["/keys"]


async def refuses(tokens: IssuedTokens, token: str) -> str:
    with pytest.raises(Unauthenticated) as refused:
        await tokens.grant(token)
    return refused.value.message


NOW = int(time.time())
# No times, though some would do in a comparison. Infinity and NaN are no JSON, and Python's reads them.
ABSURD: list[Any] = [
    10**400, 10**12, -1, -(10**400), float("inf"), float("-inf"), float("nan"), 1e308, str(NOW), "9" * 5000,
    "", True, [NOW], {}, [],
]  # fmt: skip


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example"},
        {"iss": None},
        {"aud": "others"},
        {"aud": ["others", "more"]},
        {"aud": None},
        {"aud": f"{PUBLIC}.evil.example/mcp"},
        {"aud": f"{PUBLIC}/billing"},
        {"aud": f"{PUBLIC}/mcp/a/b"},
        {"aud": f"{PUBLIC}/mcp?x"},
        {"exp": NOW - 3600},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": NOW + 3600},
        {"iat": NOW + 3600},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 256},
        {"sub": "ann\n"},
        {"sub": "\ud800"},
        {"sub": 1},
        {"aud": [AUDIENCE, 1][::-1]},
        {"aud": {AUDIENCE: 1}},
        *({name: value} for name in ("exp", "nbf", "iat") for value in ABSURD),
    ],
    ids=[
        "of another issuer",
        "of none",
        "for others",
        "for several others",
        "for nobody",
        "for one alike",
        "for another at our address",
        "for nothing of ours",
        "for a query",
        "expired",
        "for ever",
        "until soon",
        "not yet",
        "of tomorrow",
        "of nobody",
        "of an empty one",
        "of a long one",
        "of two lines",
        "of no text",
        "of a number",
        "for a number",
        "for an object",
        *(f"{name} {n}" for name in ("exp", "nbf", "iat") for n in range(len(ABSURD))),
    ],
)
async def test_claims_that_do_not_fit_are_refused(issuer, tokens, claims):
    if claims.keys() & {"exp", "nbf", "iat", "sub", "aud"}:
        key = issuer.keys["rsa-1"][1]
        said = {"iss": issuer.url, "sub": "ann", "aud": AUDIENCE, "exp": int(time.time()) + 60, **claims}
        said = {name: value for name, value in said.items() if value is not None}
        await refuses(tokens, signed(said, key))
    else:
        await refuses(tokens, issuer.token(**claims))


def signed(claims: dict[str, Any], key: Any) -> str:
    """Whatever the claims are."""
    return jwt.api_jws.encode(json.dumps(claims).encode(), key, "RS256", headers={"kid": "rsa-1"})


async def test_clocks_may_be_a_little_apart(issuer, tokens):
    now = int(time.time())
    assert (await principal(tokens, issuer.token(exp=now - 30, nbf=now + 30, iat=now + 30))).name == "ann"


async def test_a_token_without_signature_is_refused(issuer, tokens):
    claims = {"iss": issuer.url, "sub": "ann", "aud": AUDIENCE, "exp": int(time.time()) + 60}
    await refuses(tokens, jwt.encode(claims, None, "none", headers={"kid": "rsa-1"}))


async def test_the_public_key_is_no_shared_secret(issuer, tokens):
    public = issuer.keys["rsa-1"][1].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    claims = {"iss": issuer.url, "sub": "ann", "aud": AUDIENCE, "exp": int(time.time()) + 60}
    head = base64url_encode(json.dumps({"alg": "HS256", "kid": "rsa-1", "typ": "JWT"}).encode())
    said = head + b"." + base64url_encode(json.dumps(claims).encode())
    mac = base64url_encode(hmac.new(pem, said, sha256).digest())
    await refuses(tokens, (said + b"." + mac).decode())


async def test_anothers_signature_is_refused(issuer, tokens):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    await refuses(tokens, issuer.token(key=other))


async def test_a_token_can_not_bring_its_own_key(issuer, tokens):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(other.public_key()))
    heads = {"jwk": jwk, "jku": "https://evil.example/keys"}
    await refuses(tokens, issuer.token(key=other, headers=heads))


async def test_a_changed_token_is_refused(issuer, tokens):
    head, claims, signature = issuer.token(sub="ann").split(".")
    other = issuer.token(sub="bob").split(".")[1]
    await refuses(tokens, ".".join((head, other, signature)))
    await refuses(tokens, f"{head}.{claims}.{signature[:-4]}AAAA")
    for garbage in ("", "a.b.c", "..", f"{head}..{signature}"):
        await refuses(tokens, garbage)


async def test_algorithms_are_those_of_the_configuration(issuer, made):
    await refuses(made(algorithms=("ES256",)), issuer.token())


async def test_keys_for_other_uses_are_left_out(issuer, tokens):
    issuer.extra_keys = [{**issuer.jwks()["keys"][0], "kid": "enc", "use": "enc"}]
    await refuses(tokens, issuer.token(headers={"kid": "enc"}))


async def test_a_weak_key_is_left_out(issuer, tokens):
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    issuer.keys["weak"] = "RS256", weak
    await refuses(tokens, issuer.token())


async def test_a_shared_secret_among_the_keys_is_left_out(issuer, tokens):
    issuer.extra_keys = [{"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "oct"}]
    await refuses(tokens, issuer.token(key=b"secret" * 6, algorithm="HS256", headers={"kid": "oct"}))


async def test_a_very_long_token_is_not_looked_at(issuer, tokens):
    assert "longer" in await refuses(tokens, issuer.token(more="x" * LONGEST_TOKEN))
    assert issuer.seen == []


async def test_a_logout_token_is_no_access_token(issuer, tokens):
    assert "access token" in await refuses(tokens, issuer.token(headers={"typ": "logout+jwt"}))


async def test_an_issuer_that_calls_itself_another_is_not_believed(issuer, tokens):
    issuer.says = {"issuer": "https://other.example"}
    await refuses(tokens, issuer.token())


async def test_keys_without_names_are_tried(issuer, tokens):
    issuer.add("second", "RS256")
    plain = issuer.jwks()["keys"]
    for key in plain:
        del key["kid"]
    issuer.extra_keys = plain
    token = issuer.token(headers={"kid": None})
    issuer.keys.clear()
    assert (await principal(tokens, token)).name == "ann"


# --- what a token reaches ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "agents"),
    [
        ({"scope": "research other"}, {"research"}),
        ({"scope": "research plots"}, {"research", "analyst"}),
        ({"scope": "everything research"}, None),
        ({"scp": ["plots"]}, {"research", "analyst"}),
        ({"scp": "plots"}, {"research", "analyst"}),
        ({"scope": ""}, set()),
        ({}, set()),
    ],
)
async def test_scopes_stand_for_agents(issuer, made, said, agents):
    tokens = made(scopes={"research": ("research",), "plots": ("research", "analyst"), "everything": ("*",)})
    assert (await principal(tokens, issuer.token(**said))).agents == agents


async def test_what_a_token_wants_that_reaches_nothing(issuer, made):
    """The scopes that would let it reach something; none where nothing would."""
    scopes = {"research": ("research",), "*": ("open",), "empty": (), 'no"name': ("x",), "all": ("*",)}
    tokens = made(scopes=scopes)
    there = {"aud": f"{PUBLIC}/mcp/elsewhere"}
    assert (await tokens.grant(issuer.token(**there))).wanting == ("research", "all")
    for said in ({}, {"scope": "research"}, there | {"scope": "all"}):
        assert (await tokens.grant(issuer.token(**said))).wanting == ()
    for scopes in ({}, {"*": ("open",)}):
        assert (await made(scopes=scopes).grant(issuer.token(**there))).wanting == ()


async def test_without_scopes_a_token_reaches_nothing(issuer, made):
    tokens = made(scopes={})
    for said in ({}, {"scope": "anything * all"}, {"aud": f"{PUBLIC}/mcp/research"}):
        assert (await principal(tokens, issuer.token(**said))).agents == set()


async def test_what_every_token_reaches_is_said(issuer, made):
    tokens = made(scopes={"*": ("research",), "plots": ("plots",)})
    assert (await principal(tokens, issuer.token())).agents == {"research"}
    assert (await principal(tokens, issuer.token(scope="plots"))).agents == {"research", "plots"}


async def test_the_admin_scope_makes_an_admin(issuer, made):
    tokens = made(admin_scope="gateway:admin")
    assert (await principal(tokens, issuer.token(scope="gateway:admin x"))).admin
    assert not (await principal(tokens, issuer.token(scope="x"))).admin


@pytest.mark.parametrize(
    ("audience", "agents"),
    [
        (PUBLIC, None),
        (f"{PUBLIC}/", None),
        (f"{PUBLIC}/mcp", None),
        (f"{PUBLIC}/acp/", None),
        (f"{PUBLIC}/mcp/research", {"research"}),
        ([f"{PUBLIC}/mcp/research", f"{PUBLIC}/a2a/plots/"], {"research", "plots"}),
        ([f"{PUBLIC}/mcp/research", AUDIENCE], None),
    ],
)
async def test_a_token_for_one_agent_is_good_for_that_one(issuer, tokens, audience, agents):
    assert (await principal(tokens, issuer.token(aud=audience))).agents == agents


# --- as a credential --------------------------------------------------------------------------------------


async def test_a_token_is_checked_once(issuer, tokens, monkeypatch):
    access = Access("owner", issuer=tokens, openid="x")
    header = f"Bearer {issuer.token()}".encode()
    with pytest.raises(Unauthenticated):
        access.grant(header)
    grant = await access.issued(header)
    assert access.grant(header) is grant
    access.take([])
    assert access.grant(header) is grant
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    access.tick()
    with pytest.raises(Unauthenticated):
        access.grant(header)


async def test_a_token_for_another_address_than_the_gateway_has_now_is_good_no_more(issuer):
    auth = Auth(issuer=issuer.url, scopes={"*": ("*",)})
    config = Config(auth=auth, server=Server(public_url=PUBLIC))
    moved = Config(auth=auth, server=Server(public_url="https://new.example"))
    gateway = process.Gateway(config, MemoryStore(), bind="127.0.0.1", token="owner")
    async with process.running(gateway, None):
        header = f"Bearer {issuer.token(aud=f'{PUBLIC}/mcp')}".encode()
        grant = await gateway.access.issued(header)
        assert gateway.access.grant(header) is grant
        await gateway.reconfigure(config)
        assert gateway.access.grant(header) is grant
        await gateway.reconfigure(moved)
        assert not grant.holds(time.time())
        with pytest.raises(Unauthenticated):
            gateway.access.grant(header)
        with pytest.raises(Unauthenticated):
            await gateway.access.issued(header)


async def test_with_an_issuer_nobody_comes_in_without_a_credential(tokens):
    access = Access("owner", issuer=tokens, openid="https://id.example/x")
    assert access.closed
    assert access.schemes == {"bearer": "", "openid": "https://id.example/x"}
    for header in (None, b"Bearer not-a-token", b"Basic a.b.c"):
        with pytest.raises(Unauthenticated):
            await access.issued(header)
