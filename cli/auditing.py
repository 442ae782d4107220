"""The audit log in the gateway's life: lines are made of spans, and handed to who keeps them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from ..gateway.audit import Audit
from ..gateway.link import Cut
from ..gateway.telemetry import Span, Tracer

log = logging.getLogger("agentgw.audit")

Keep = Callable[[bytes], Awaitable[int]]  # lines; how many were lost before them


class Auditing:
    """``audit`` collects what is no span's; ``keep``: see ``AuditFile.write``."""

    def __init__(self, tracer: Tracer, keep: Keep) -> None:
        self.audit = Audit()
        self._tracer = tracer
        self._keep = keep
        self._dropped = 0  # spans, as far as the log knows

    async def flush(self, spans: Sequence[Span]) -> None:
        """Write out what is there now, and ``spans`` with it; never raises."""
        try:
            self.audit.spans(spans)
            if missing := self._tracer.dropped - self._dropped:
                self._dropped += missing
                self.audit.lost(missing)
            if (lines := self.audit.drain()) and (missing := await self._keep(lines)):
                self.audit.lost(missing)
        except Cut as e:  # of a worker that loses its owner, and ends
            log.debug("%s", e.message)
        except Exception:
            log.exception("the audit log can't be written")
