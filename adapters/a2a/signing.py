"""Signatures of agent cards: detached JWS (specification 1.0.1, section 8.4.2; RFC 7515, 7517, 7518).

A payload is signed as base64url; the card carries the protected header and the signature beside it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from .wire import Json

if TYPE_CHECKING:
    PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

Verdict = Literal["valid", "invalid", "unknown"]
_SIZE = 32  # bytes of one number of an ES256 signature or key
# What a signature may cost: keys that are looked at, those of them that are tried, bits of an RSA key.
_MOST_KEYS, _MOST_TRIED, _MOST_BITS = 100, 8, 8192
_encode = msgspec.json.Encoder(order="deterministic").encode


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unb64(text: str) -> bytes:
    """Raises ValueError."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


class Key:
    """A private key for ES256. ``jwk``: its public half; ``kid``: that one's thumbprint (RFC 7638)."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private
        point = private.public_key().public_numbers()
        core = {"crv": "P-256", "kty": "EC", "x": _number(point.x), "y": _number(point.y)}
        self.kid = b64(hashlib.sha256(_encode(core)).digest())
        self.jwk: dict[str, str] = {**core, "kid": self.kid, "use": "sig", "alg": "ES256"}

    @classmethod
    def new(cls) -> Key:
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, data: bytes) -> Key:
        """The key that ``dump`` wrote. Raises ValueError for anything else."""
        private = serialization.load_der_private_key(data, None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError("not an EC key")
        return cls(private)

    def dump(self) -> bytes:
        """The private key: PKCS #8, DER."""
        return self._private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def signature(self, payload: bytes, jku: str) -> dict[str, str]:
        """The card's signature for ``payload``. ``jku``: where the public key is to be had."""
        protected = b64(_encode({"alg": "ES256", "jku": jku, "kid": self.kid, "typ": "JOSE"}))
        signed = self._private.sign(_signed(protected, payload), ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(signed)
        return {"protected": protected, "signature": b64(r.to_bytes(_SIZE) + s.to_bytes(_SIZE))}


def _number(value: int) -> str:
    return b64(value.to_bytes(_SIZE))


def _signed(protected: str, payload: bytes) -> bytes:
    return f"{protected}.{b64(payload)}".encode()


# --- verifying ---------------------------------------------------------------------------------


class Signature(msgspec.Struct, frozen=True):
    """A card's signature, read. ``alg``, ``kid`` and ``jku`` are its protected header's."""

    protected: str
    value: bytes
    alg: str
    kid: str = ""
    jku: str = ""


def signature_of(wire: Any) -> Signature | None:
    """None for what is no JWS that can be understood, one with critical extensions too (RFC 7515, 4.1.11)."""
    try:
        protected, value = wire["protected"], unb64(wire["signature"])
        header: Any = msgspec.json.decode(unb64(protected))
        if "crit" in header:
            return None
        return msgspec.convert({**header, "protected": protected, "value": value}, Signature, strict=True)
    except (KeyError, TypeError, ValueError):  # msgspec's errors are ValueErrors
        return None


def checked(signature: Signature, payloads: Iterable[bytes], keys: Sequence[Json]) -> Verdict:
    """Whether the signature is about one of the payloads. ``keys``: JWKs; "unknown": none of them fits it."""
    verify = _ALGORITHMS.get(signature.alg)
    fitting = [k for k in keys[:_MOST_KEYS] if _fits(k, signature)]
    if verify is None or not fitting:
        return "unknown"
    loaded = [key for jwk in fitting[:_MOST_TRIED] if (key := _public(jwk)) is not None]
    if not loaded:
        return "unknown"
    signed = [_signed(signature.protected, payload) for payload in payloads]
    valid = any(_holds(verify, key, signature.value, data) for key in loaded for data in signed)
    return "valid" if valid else "invalid"


def _fits(jwk: Json, signature: Signature) -> bool:
    if signature.kid and jwk.get("kid") not in (signature.kid, None):
        return False
    return jwk.get("use", "sig") == "sig" and jwk.get("alg", signature.alg) == signature.alg


_CURVES: Mapping[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}


def _public(jwk: Json) -> PublicKey | None:
    """The key; None for what is none, or of a kind that is not known here."""
    try:
        match jwk:
            case {"kty": "EC", "crv": str() as crv, "x": str() as x, "y": str() as y} if crv in _CURVES:
                return ec.EllipticCurvePublicNumbers(_int(x), _int(y), _CURVES[crv]).public_key()
            case {"kty": "RSA", "n": str() as n, "e": str() as e}:
                return rsa.RSAPublicNumbers(_int(e), _int(n)).public_key()
            case {"kty": "OKP", "crv": "Ed25519", "x": str() as x}:
                return ed25519.Ed25519PublicKey.from_public_bytes(unb64(x))
            case _:
                return None
    except (ValueError, UnsupportedAlgorithm):
        return None


def _int(text: str) -> int:
    return int.from_bytes(unb64(text))


Check = Callable[["PublicKey", bytes, bytes], None]


def _holds(check: Check, key: PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        check(key, signature, data)
        return True
    except (InvalidSignature, ValueError):
        return False


def _ecdsa(curve: str, digest: hashes.HashAlgorithm) -> Check:
    def check(key: PublicKey, signature: bytes, data: bytes) -> None:
        size = (_CURVES[curve].key_size + 7) // 8
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != _CURVES[curve].name:
            raise InvalidSignature
        if len(signature) != 2 * size:
            raise InvalidSignature
        r, s = int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))

    return check


def _rsa(digest: hashes.HashAlgorithm, *, pss: bool) -> Check:
    pad = padding.PSS(padding.MGF1(digest), digest.digest_size) if pss else padding.PKCS1v15()

    def check(key: PublicKey, signature: bytes, data: bytes) -> None:
        if not isinstance(key, rsa.RSAPublicKey) or key.key_size > _MOST_BITS:
            raise InvalidSignature
        key.verify(signature, data, pad, digest)

    return check


def _eddsa(key: PublicKey, signature: bytes, data: bytes) -> None:
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise InvalidSignature
    key.verify(signature, data)


# Never "none", nor what takes a shared secret: a public key must not become one.
_ALGORITHMS: Mapping[str, Check] = {
    "ES256": _ecdsa("P-256", hashes.SHA256()),
    "ES384": _ecdsa("P-384", hashes.SHA384()),
    "ES512": _ecdsa("P-521", hashes.SHA512()),
    "RS256": _rsa(hashes.SHA256(), pss=False),
    "RS384": _rsa(hashes.SHA384(), pss=False),
    "RS512": _rsa(hashes.SHA512(), pss=False),
    "PS256": _rsa(hashes.SHA256(), pss=True),
    "PS384": _rsa(hashes.SHA384(), pss=True),
    "PS512": _rsa(hashes.SHA512(), pss=True),
    "EdDSA": _eddsa,
}
