"""The machine: its clock, whose certificates it trusts, the issuer of tokens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime

from ...registry.sqlite import FILE
from .facts import Facts
from .finding import Finding

BUILT = datetime(2024, 1, 1, tzinfo=UTC).timestamp()  # no clock that is right says less
AHEAD = 3600.0  # seconds that what was written may seem to come from the future


def machine(facts: Facts) -> Iterator[Finding]:
    yield from _clock(facts)
    for name, there in (("SSL_CERT_FILE", os.path.isfile), ("SSL_CERT_DIR", os.path.isdir)):
        path = facts.environ.get(name, "")
        if path and not there(path):
            yield Finding(
                f"{name} names {path}, which is not there", "unset or correct it: no certificate is trusted"
            )
    yield from _issuer(facts)


def _clock(facts: Facts) -> Iterator[Finding]:
    mend = "set the clock: certificates, tokens and keys are judged by it"
    said = f"{datetime.fromtimestamp(facts.now, UTC):%Y-%m-%dT%H:%M:%SZ}"
    try:
        written = (facts.home / FILE).stat().st_mtime
    except OSError:
        written = 0.0
    if facts.now < BUILT:
        yield Finding(f"the clock says {said}", mend)
    elif written > facts.now + AHEAD:
        yield Finding(f"the clock says {said}, and data were written later than that", mend)


def _issuer(facts: Facts) -> Iterator[Finding]:
    issuer, auth = facts.issuer, facts.config.auth
    if issuer is None:
        return
    if issuer.mistake:
        yield Finding(
            f"the issuer {auth.issuer} can't be asked for its keys: {issuer.mistake}",
            "correct auth.issuer or auth.jwks_url, or make it reachable: until then no token is good",
        )
    elif issuer.clock is not None and abs(issuer.clock - facts.now) > auth.leeway:
        yield Finding(
            f"this clock and that of {auth.issuer} are {abs(issuer.clock - facts.now):.0f} s apart",
            "set this machine's clock, or auth.leeway: tokens are refused that are good, or taken too long",
        )


def summary(facts: Facts) -> str:
    return "the clock, and whose certificates are trusted"
