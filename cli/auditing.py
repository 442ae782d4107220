"""The audit log in the gateway's life: lines are made of spans, and handed to who keeps them. And what is
changed while no gateway runs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

from ..gateway.audit import Audit
from ..gateway.config import Config
from ..gateway.control import AddAgent, AddKey, Control
from ..gateway.errors import GatewayError
from ..gateway.link import Cut
from ..gateway.model import Principal
from ..gateway.telemetry import Span, Tracer
from ..registry.auditfile import AuditFile

log = logging.getLogger("agentgw.audit")

Keep = Callable[[bytes], Awaitable[int]]  # lines; how many were lost before them


class Auditing:
    """``audit`` collects what is no span's; ``keep``: see ``AuditFile.write``."""

    def __init__(self, tracer: Tracer, keep: Keep) -> None:
        self.audit = Audit()
        self._tracer = tracer
        self._keep = keep
        self._dropped = 0  # spans, as far as the log knows

    def begin(self) -> None:
        """What is lost from now on is lost to the log."""
        self._dropped = self._tracer.dropped

    async def end(self) -> None:
        """Write out what there is, and that nothing follows."""
        self.audit.change(_OWNER, "audit.enabled = false", 0)
        await self.flush(())

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


def audit_file(config: Config, home: Path) -> AuditFile:
    """Where the audit log is kept. Nothing is opened before something is written."""
    return AuditFile(audit_place(config, home), config.audit.size, config.audit.kept)


def audit_place(config: Config, home: Path) -> Path:
    """The audit log's own path."""
    return Path(config.audit.file).expanduser() if config.audit.file else home / "audit.jsonl"


Apply = Callable[[Config], Awaitable[None]]


def moving(file: AuditFile, home: Path, apply: Apply) -> Apply:
    """``apply``, which puts a configuration in place, and the file where that says."""

    async def applied(config: Config) -> None:
        await apply(config)
        await file.move(audit_place(config, home), config.audit.size, config.audit.kept)

    return applied


READS = frozenset({"list_agents", "show_agent", "list_keys", "agent_logs", "traces", "trace"})
_OWNER = Principal(id="owner", owner=True)


def recorded(control: Control, keep: Keep) -> Control:
    """The control plane of a command that has the data directory to itself: what changes something is
    recorded."""

    def changing(name: str, change: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def changed(*args: Any) -> Any:
            audit, error = Audit(), "internal"
            try:
                result = await change(*args)
                error = ""
                return result
            except GatewayError as e:
                error = e.code
                raise
            finally:
                audit.change(_OWNER, *_told(name, *args), error=error)
                await keep(audit.drain())

        return changed

    class Recorded:
        def __getattr__(self, name: str) -> Any:
            found = getattr(control, name)
            return found if name in READS else changing(name, found)

    return cast("Control", Recorded())


def _told(name: str, *args: Any) -> tuple[str, int, str]:
    if name == "set_enabled":
        name = "enable_agent" if args[1] else "disable_agent"
    about = args[0] if args else ""
    if isinstance(about, AddAgent | AddKey):
        about = about.name or getattr(about, "url", "")
    return name, 0, about if isinstance(about, str) else ""
