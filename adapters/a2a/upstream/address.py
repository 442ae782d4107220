"""Which interface of a card lies on the registered origin, and is used with the registered credentials.
gRPC, which needs a port of its own, counts as lying there when it is on the registered host.

A card is what an agent says; a URL in it may point anywhere. One elsewhere must pass ``gateway.outbound``,
anew at every use.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit, urlunsplit

_SELF = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "::", "::1"})
_PORTS = {"http": 80, "https": 443}


def _port(url: SplitResult) -> int | None:
    try:
        return url.port or _PORTS.get(url.scheme)
    except ValueError:
        return None


def same_origin(url: str, registered: str) -> str | None:
    """``url`` as it is reached on the registered origin; None when it lies elsewhere. Names of this very
    machine count as one on the same port (servers write their bind address into cards): the registered name
    is the one to use."""
    there, here = urlsplit(url), urlsplit(registered)
    if there.scheme != here.scheme or _port(there) != _port(here) or _port(here) is None:
        return None
    if there.hostname == here.hostname:
        return url
    if _same_host(there, here):
        return urlunsplit(there._replace(netloc=here.netloc))
    return None


def _same_host(there: SplitResult, here: SplitResult) -> bool:
    host, known = (there.hostname or "").lower(), (here.hostname or "").lower()
    return host == known or (host in _SELF and known in _SELF)


def of_grpc(url: str, registered: str) -> str:
    """A gRPC interface's URL, which most agents write as ``host:port``, as one of https (TLS) or http.
    Without a scheme port 443 means TLS, and else it is as with the registered URL. Port 443 or 80 where none
    is given. Raises ValueError for what names no host."""
    scheme, found, rest = url.rpartition("://")
    parts = urlsplit("//" + rest.lstrip("/"))
    known = scheme in ("", "http", "https", "grpc", "grpcs", "dns")
    if not known or not parts.hostname or parts.path.strip("/"):
        raise ValueError(url)
    plain = parts.port != 443 and urlsplit(registered).scheme == "http"
    tls = scheme in ("https", "grpcs") if found and scheme != "dns" else not plain
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{'https' if tls else 'http'}://{host}:{parts.port or (443 if tls else 80)}"


def beside(url: str, registered: str) -> str | None:
    """The gRPC ``url`` (see ``of_grpc``) as it is reached on the registered host; None when it lies
    elsewhere, or credentials that went encrypted would go in the clear."""
    there, here = urlsplit(url), urlsplit(registered)
    if not _same_host(there, here) or (here.scheme == "https" and there.scheme != "https"):
        return None
    host = here.hostname or ""
    netloc = f"[{host}]:{there.port}" if ":" in host else f"{host}:{there.port}"
    return urlunsplit(there._replace(netloc=netloc))
