"""Whether an agent's card is what its signer signed (specification 1.0.1, section 8.4.3).

The key comes from where the signature says (``jku``): from the registered origin, else over https from an
address that may be reached. One signature that holds is enough. Where none holds though the key is at hand,
the card was changed on its way: it is refused, as the gateway would otherwise sign what is false. Where the
key can't be had the card is taken as an unsigned one would be, and the agent's health says so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ....gateway import outbound
from ....gateway.errors import BadUpstream, GatewayError
from ....gateway.ports import Host
from ....gateway.readable import UNREADABLE
from ..canonical import accepted
from ..codec import Malformed, list_at, objects_at
from ..wire import Json
from . import address

log = logging.getLogger("agentgw.a2a")
TIMEOUT = 5.0  # seconds for one key set
MOST = 5  # signatures that are looked at
SIZE = 1 << 20  # bytes of a card, in its canonical form, that is verified

Headers = Sequence[tuple[str, str]]


async def verify(agent: str, card: Json, registered: str, headers: Headers, host: Host) -> str:
    """Verify the card of the agent registered at ``registered`` (``headers``: its credentials). Returns what
    its health should say: "" when a signature holds or there is none. Raises BadUpstream when none holds."""
    wires = list_at(card, "signatures")[:MOST]
    if not wires:
        return ""
    from ..signing import Signature, checked, signature_of  # cryptography: only who meets a signature pays

    try:
        payloads = accepted(card)
    except Malformed as e:
        raise BadUpstream(f"{agent}'s card is signed, but has no canonical form: {e}") from e
    if max(map(len, payloads)) > SIZE:
        return f"the signature of its card could not be verified: the card is larger than {SIZE} bytes"
    broken = False
    reason = "it is in no form that the gateway knows"
    for signature in map(signature_of, wires):
        if not isinstance(signature, Signature):
            continue
        try:
            keys = await _keys(signature.jku, registered, headers, host)
        except GatewayError as e:
            reason = e.message
            log.debug("%s: the keys at %s: %s: %s", agent, signature.jku, e.message, e.detail)
            continue
        verdict = checked(signature, payloads, keys)
        if verdict == "valid":
            return ""
        broken = broken or verdict == "invalid"
        reason = "the key that it names is not among those published"
    if broken:
        raise BadUpstream(f"the signature of {agent}'s card does not hold: it was changed after signing")
    return f"the signature of its card could not be verified: {reason}"


async def _keys(jku: str, registered: str, headers: Headers, host: Host) -> list[dict[str, Any]]:
    """The key set at ``jku``. Raises GatewayError."""
    if not jku:
        raise BadUpstream("it does not say where its key is")
    here = address.same_origin(jku, registered)
    if here is not None:
        answer = await host.transport.request("GET", here, headers=headers, timeout=TIMEOUT)
    elif urlsplit(jku).scheme != "https":
        raise BadUpstream("its key is not published over https")
    else:
        at = await outbound.checked(jku, host.config.outbound.allow)
        answer = await host.transport.request("GET", jku, timeout=TIMEOUT, address=at)
    if answer.status != 200:
        raise BadUpstream(f"its keys are not to be had (HTTP {answer.status})")
    try:
        return objects_at(msgspec.json.decode(answer.body, type=dict[str, Any]), "keys")
    except (*UNREADABLE, Malformed) as e:
        raise BadUpstream("its keys are not a key set", detail=str(e)) from e
