"""The certificates that the tests' HTTP clients trust are read once, not for each of them: that takes longer
than most of what they ask for."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from functools import lru_cache, wraps
from types import ModuleType
from typing import Any


def read_once(module: ModuleType) -> None:
    """Clients whose transports are in ``module`` (of httpx, or httpx2) share what they trust, as long as they
    are not told to trust anything else."""
    create: Callable[..., ssl.SSLContext] = module.create_ssl_context

    @lru_cache
    def shared(trust_env: bool, *_: str | None) -> ssl.SSLContext:
        return create(trust_env=trust_env)

    @wraps(create)
    def created(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        if verify is not True or cert is not None:
            return create(verify=verify, cert=cert, trust_env=trust_env)
        return shared(trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))

    module.create_ssl_context = created  # pyright: ignore[reportAttributeAccessIssue]
