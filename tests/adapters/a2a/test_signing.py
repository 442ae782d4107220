"""Signed agent cards: the official SDK verifies the gateway's, the gateway verifies the official SDK's."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import msgspec
import pytest
from a2a.client.card_resolver import parse_agent_card
from a2a.types import AgentCard, a2a_pb2
from a2a.utils import _jcs
from a2a.utils.signing import InvalidSignaturesError, create_agent_card_signer, create_signature_verifier
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.api_jwk import PyJWK
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from agentgw.adapters.a2a import signing
from agentgw.adapters.a2a.canonical import accepted, canonical, forms
from agentgw.adapters.a2a.codec import Malformed
from agentgw.adapters.a2a.face.face import A2AFace
from agentgw.adapters.a2a.face.signer import SPACE, Signer
from agentgw.adapters.a2a.schema import schema
from agentgw.adapters.a2a.signing import Key, checked, signature_of
from agentgw.adapters.a2a.upstream import trust
from agentgw.adapters.a2a.upstream.upstream import A2AUpstream
from agentgw.gateway.access import Access
from agentgw.gateway.engine import Hub
from agentgw.gateway.errors import BadUpstream
from agentgw.gateway.http.app import App
from agentgw.gateway.http.doors import Doors
from agentgw.gateway.model import Agent, Record, Skill
from agentgw.gateway.telemetry import Tracer
from agentgw.registry.memory import MemoryStore

from ...support.examples import examples
from ...support.memory import MemoryDirectory, MemoryUpstream, hub
from .support import LocalHost, peer, served
from .support import gateway as front

# An agent's own card, with what other cards lack: other alphabets, defaults, empty and unknown fields.
OWN_CARD: dict[str, Any] = {
    "name": "Wetter ☂",
    "description": "Says what \U0001f327 is, at 21°",
    "version": "1",
    "supportedInterfaces": [
        {"url": "http://127.0.0.1:9/", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
    ],
    "capabilities": {
        "streaming": False,
        "extensions": [
            {"uri": "urn:x", "required": False, "params": {"n": 1e21, "none": None, "é": [0.5, {}]}},
        ],
    },
    "defaultInputModes": ["text/plain"],
    "defaultOutputModes": ["text/plain"],
    "skills": [{"id": "s", "name": "s", "description": "", "tags": ["t"], "vendorField": 1}],
    "vendorField": {"a": [1]},
    "signatures": [{"protected": "e30", "signature": "AAAA"}],
}  # fmt: skip


# --- the canonical form ------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
@examples(100)
def test_json_is_canonical_as_the_sdk_has_it(value: Any) -> None:
    assert canonical(value).decode() == _jcs.canonicalize(value)


@pytest.mark.parametrize("value", [float("inf"), 10**400, "\ud800", json.loads("[" * 150 + "]" * 150)])
def test_what_has_no_canonical_form(value: Any) -> None:
    with pytest.raises(Malformed):
        canonical(value)


def test_the_schema_is_the_sdks() -> None:
    theirs = a2a_pb2.DESCRIPTOR
    assert set(theirs.message_types_by_name) == set(schema().messages)
    for name, message in theirs.message_types_by_name.items():
        fields = {f.number: (f.name, f.json) for f in schema().messages[name]}
        assert fields == {f.number: (f.name, f.json_name) for f in message.fields}
    service = theirs.services_by_name["A2AService"]
    ours = {(m.name, m.request, m.answer, m.streams) for m in schema().methods}
    names = {(m.name, m.input_type.name, m.output_type.name.removeprefix("Empty")) for m in service.methods}
    assert {(n, r, "" if a == "google.protobuf.Empty" else a) for n, r, a, _ in ours} == names


# --- the gateway's signature -------------------------------------------------------------------


@contextlib.asynccontextmanager
async def gateway() -> AsyncIterator[httpx.AsyncClient]:
    """A gateway with an agent of another protocol and one that speaks A2A, asked without a socket."""
    described = Agent(name="worker", description="Übt", skills=(Skill(id="a", name="a"),))
    directory = MemoryDirectory({"worker": MemoryUpstream(agent=described)})
    (template,) = directory.views().values()
    relayed = msgspec.structs.replace(
        template,
        record=Record(name="relayed", protocol="a2a", url="http://127.0.0.1:9/"),
        agent=Agent(name="Wetter", extra={"a2a": {"raw": OWN_CARD}}),
    )
    directory.views()["relayed"] = relayed  # type: ignore[index]
    engine = Hub(directory, MemoryStore(), Tracer(), LocalHost().config)
    face = A2AFace(engine)

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(scope["path"])

    app = App([face], nothing, Doors("127.0.0.1", ""), access=Access("t"), body_limit=1 << 20)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8080") as http:
        yield http
    await face.aclose()
    await engine.aclose()


async def verifier(http: httpx.AsyncClient, card: dict[str, Any]) -> Callable[[AgentCard], None]:
    """The SDK's verifier, with the key from where the card's signatures say."""
    keys: dict[tuple[str | None, str | None], PyJWK] = {}
    for wire in card["signatures"]:
        signature = signature_of(wire)
        assert signature is not None
        for jwk in (await http.get(signature.jku)).json()["keys"]:
            keys[jwk["kid"], signature.jku] = PyJWK(jwk)
    return create_signature_verifier(lambda kid, jku: keys[kid, jku], ["ES256"])


@pytest.mark.parametrize("version", [None, "1.0", "0.3"])
@pytest.mark.parametrize("name", ["agent-card.json", "agent.json"])
@pytest.mark.parametrize("door", ["", "/a2a/worker", "/a2a/worker/", "/a2a/relayed"])
async def test_the_sdk_verifies_every_card_as_it_is_served(door: str, name: str, version: str | None) -> None:
    async with gateway() as http:
        headers = {"a2a-version": version} if version else {}
        card = (await http.get(f"{door}/.well-known/{name}", headers=headers)).json()
        assert OWN_CARD["signatures"][0] not in card["signatures"]
        verify = await verifier(http, card)
        verify(parse_agent_card(json.loads(json.dumps(card))))
        with pytest.raises(InvalidSignaturesError):
            verify(parse_agent_card({**json.loads(json.dumps(card)), "version": "666"}))


async def test_a_card_is_signed_once_per_name_of_the_gateway() -> None:
    async with gateway() as http:
        path = "/.well-known/agent-card.json"
        first = await http.get(path)
        again = await http.get(path, headers={"if-none-match": first.headers["etag"]})
        assert again.status_code == 304
        other = (await http.get(path, headers={"host": "127.0.0.1:8080"})).json()
        signature = signature_of(other["signatures"][0])
        assert signature is not None
        assert signature.jku == "http://127.0.0.1:8080/.well-known/jwks.json"


async def test_the_key_outlives_the_process_and_lies_sealed() -> None:
    store = MemoryStore()
    engine = hub(store=store)
    before = await Signer(engine).keys()
    assert await Signer(engine).keys() == before
    assert b'"d"' not in before
    kept = (await store.items(SPACE))["key"]
    assert Key.load(engine.sealer.unseal(kept.decode(), SPACE)).kid in before.decode()
    # The keys that sealed it are gone: a new one, rather than no cards.
    assert await Signer(hub(store=store)).keys() != before


# --- agents' signatures ------------------------------------------------------------------------


class Signing:
    """Signs cards as the SDK does. ``jku``: where the key is, None: nowhere."""

    def __init__(self, alg: str = "ES256") -> None:
        self.alg = alg
        if alg == "ES256":
            self.private: Any = ec.generate_private_key(ec.SECP256R1())
            jwk: Any = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        else:
            self.private = rsa.generate_private_key(65537, 2048)
            jwk = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        self.jwk = {**jwk, "kid": "k1"}

    def sign(self, card: AgentCard, jku: str | None, kid: str = "k1") -> None:
        header: Any = {"kid": kid, "alg": self.alg, "typ": "JOSE"} | ({"jku": jku} if jku else {})
        create_agent_card_signer(self.private, header)(card)


@contextlib.asynccontextmanager
async def agent(signing: Signing, alter: Callable[[dict[str, Any], str], None]) -> AsyncIterator[A2AUpstream]:
    """An agent that serves a card signed by the SDK, and its key; ``alter`` gets the card and its URL."""

    def described(request: Request) -> JSONResponse:
        base = str(request.base_url)
        card = peer.card(request.url.port, ["1.0"])
        card.description = "Größe ☂"
        card.capabilities.push_notifications = False
        signing.sign(card, f"{base}jwks")
        made = MessageToDict(card)
        alter(made, base)
        return JSONResponse(made)

    async def keys(request: Request) -> JSONResponse:
        return JSONResponse({"keys": [signing.jwk]})

    routes = [Route("/.well-known/agent-card.json", described), Route("/jwks", keys)]
    async with served(Starlette(routes=routes)) as url:
        host = LocalHost()
        yield A2AUpstream(Record(name="signed", protocol="a2a", url=url), host)
        await host.transport.aclose()


def said(found: Agent) -> Any:
    return found.extra.get("agentgw", {}).get("note")


@pytest.mark.parametrize("alg", ["ES256", "RS256", "PS256"])
async def test_a_signature_of_the_sdk_holds(alg: str) -> None:
    async with agent(Signing(alg), lambda card, base: None) as upstream:
        (found,) = await upstream.describe()
        assert said(found) is None


async def test_a_card_that_was_changed_is_refused() -> None:
    async with agent(Signing(), lambda card, base: card.update(description="mine")) as upstream:
        with pytest.raises(BadUpstream, match="signature of signed's card does not hold"):
            await upstream.describe()


async def test_an_extended_card_is_verified_and_signed_anew() -> None:
    signing, changed = Signing(), False

    def card(base: str) -> dict[str, Any]:
        made = peer.card(1, ["1.0"])
        del made.supported_interfaces[:]
        made.supported_interfaces.add(url=base, protocol_binding="HTTP+JSON", protocol_version="1.0")
        made.capabilities.extended_agent_card = True
        signing.sign(made, f"{base}jwks")
        return MessageToDict(made)

    async def extended(request: Request) -> JSONResponse:
        return JSONResponse(card(str(request.base_url)) | ({"version": "666"} if changed else {}))

    async def described(request: Request) -> JSONResponse:
        return JSONResponse(card(str(request.base_url)))

    async def keys(request: Request) -> JSONResponse:
        return JSONResponse({"keys": [signing.jwk]})

    routes = [
        Route("/.well-known/agent-card.json", described),
        Route("/extendedAgentCard", extended),
        Route("/jwks", keys),
    ]
    async with served(Starlette(routes=routes)) as url, front(far=url) as gw:
        answer = (await gw.http.get(f"{gw.url}/a2a/far/extendedAgentCard")).json()
        assert answer["supportedInterfaces"][0]["url"] == f"{gw.url}/a2a/far/"
        (await verifier(gw.http, answer))(parse_agent_card(answer))
        changed = True
        answer = (await gw.http.get(f"{gw.url}/a2a/far/extendedAgentCard")).json()
        assert "signature of far's card does not hold" in answer["error"]["message"]


async def test_one_signature_that_holds_is_enough() -> None:
    def alter(card: dict[str, Any], base: str) -> None:
        (good,) = card["signatures"]
        card["signatures"] = [
            {"protected": "nonsense", "signature": "!"},
            {**good, "signature": "AAAA"},
            good,
        ]

    async with agent(Signing(), alter) as upstream:
        (found,) = await upstream.describe()
        assert said(found) is None


@pytest.mark.parametrize(
    ("jku", "kid", "words"),
    [
        (None, "k1", "does not say where its key is"),
        ("http://198.51.100.1/keys", "k1", "not published over https"),
        ("https://10.0.0.1/keys", "k1", "not a public address"),
        ("same", "k2", "not among those published"),
    ],
)
async def test_a_key_that_can_not_be_had_is_noted(jku: str | None, kid: str, words: str) -> None:
    signing = Signing()

    def alter(card: dict[str, Any], base: str) -> None:
        other = AgentCard(name="x")
        signing.sign(other, f"{base}jwks" if jku == "same" else jku, kid)
        card["signatures"] = MessageToDict(other)["signatures"]

    async with agent(signing, alter) as upstream:
        (found,) = await upstream.describe()
        assert words in said(found)


async def test_a_key_that_is_published_later_is_found_though_the_card_is_the_same() -> None:
    signing = Signing()
    signatures: list[Any] = []

    def alter(card: dict[str, Any], base: str) -> None:
        signatures[:] = signatures or card["signatures"]  # each signing gives another
        card["signatures"] = signatures

    async with agent(signing, alter) as upstream:
        signing.jwk["kid"] = "k2"
        (found,) = await upstream.describe()
        assert "not among those published" in said(found)
        signing.jwk["kid"] = "k1"
        (found,) = await upstream.describe()
        assert said(found) is None


@pytest.mark.parametrize(
    ("header", "verdict"),
    [
        ({"alg": "none"}, "unknown"),
        ({"alg": "HS256"}, "unknown"),
        ({"alg": "ES256", "kid": "other"}, "unknown"),
        ({"alg": "ES256", "jku": "x"}, "invalid"),
        ({"alg": "ES256", "crit": ["b64"]}, None),
        ({}, None),
        ([], None),
    ],
)
def test_what_is_no_signature_proves_nothing(header: Any, verdict: str | None) -> None:
    key = Key.new()
    (payload,) = forms({"name": "x"})
    wire = key.signature(payload, "")
    protected = msgspec.json.encode({"kid": key.kid, **header} if isinstance(header, dict) else header)
    forged = {**wire, "protected": base64.urlsafe_b64encode(protected).decode().rstrip("=")}
    signature = signature_of(forged)
    assert verdict == (signature and checked(signature, [payload], [key.jwk]))


async def test_sdks_of_03_find_what_they_look_for() -> None:
    """They sign their own fields but for defaults, as Python's json writes them, and pass over 1.0's."""
    async with gateway() as http:
        card = (await http.get("/a2a/worker/.well-known/agent-card.json")).json()
        (jwk,) = (await http.get("/.well-known/jwks.json")).json()["keys"]
        wires = card.pop("signatures")
        assert card.pop("preferredTransport") == "JSONRPC"
        assert card.pop("protocolVersion") == "0.3.0"
        del card["supportedInterfaces"], card["capabilities"]["extendedAgentCard"]
        theirs = json.dumps(card, separators=(",", ":"), sort_keys=True).encode()
        verdicts = [checked(s, [theirs], [jwk]) for wire in wires if (s := signature_of(wire))]
        assert verdicts.count("valid") == 1


@pytest.mark.parametrize("ascii_only", [True, False])
def test_signatures_of_older_sdks_hold(ascii_only: bool) -> None:
    """Before 1.3 the SDK's canonical form escaped what is not ASCII."""
    payload = json.dumps({"name": "ü"}, separators=(",", ":"), ensure_ascii=ascii_only).encode()
    key = Key.new()
    signature = signature_of(key.signature(payload, ""))
    assert signature is not None
    assert checked(signature, accepted({"name": "ü", "description": ""}), [key.jwk]) == "valid"


def test_what_a_signature_may_cost() -> None:
    """A key set is an agent's: however many keys it holds, few are tried, and none that takes long."""
    key, payload = Key.new(), b"{}"
    signature = signature_of(key.signature(payload, "https://x/jwks"))
    assert signature is not None
    others = [Key.new().jwk | {"kid": key.kid} for _ in range(20)]
    assert checked(signature, [payload], [*others[:3], key.jwk]) == "valid"
    assert checked(signature, [payload], [*others, key.jwk]) == "invalid"
    large = rsa.generate_private_key(65537, 2048)
    with pytest.MonkeyPatch.context() as patch:
        signed = large.sign(b"e30.e30", padding.PKCS1v15(), hashes.SHA256())
        jwk = {**RSAAlgorithm.to_jwk(large.public_key(), as_dict=True), "use": "sig"}
        by_rsa = msgspec.structs.replace(signature, alg="RS256", protected="e30", value=signed, kid="")
        assert checked(by_rsa, [payload], [jwk]) == "valid"
        patch.setattr(signing, "_MOST_BITS", 1024)
        assert checked(by_rsa, [payload], [jwk]) == "invalid"


async def test_a_card_too_large_to_be_verified_is_noted() -> None:
    card = {**OWN_CARD, "description": "x" * trust.SIZE}
    said = await trust.verify("a", card, "http://127.0.0.1:9/", (), LocalHost())
    assert "could not be verified: the card is larger than" in said
