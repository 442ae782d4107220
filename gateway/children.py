"""Agents that are processes: started in a group of their own, listened to on stderr, ended with all that they
have started.

On Linux that holds whatever they do: what a child starts is known by a mark in its environment, also when
it has left the group, and a small process beside the gateway (``reaper``) ends all of it should the gateway
be killed. On other systems with process groups what has left the group is not found. A child that minds the
end of its standard input ends with the gateway anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import reaper
from .agentlog import ENDED, STARTED, AgentLog, AgentLogs

log = logging.getLogger("agentgw.children")

CHUNK = 256 * 1024
GRACE = 2.0  # seconds between closing stdin, SIGTERM and SIGKILL
TAIL = 50  # lines of stderr that are at hand when a child dies
PAUSE = 0.05  # seconds after each full read: who floods stderr is slowed down, nobody else
SHORT = 4  # characters that a value must have to be taken for a secret


class Children:
    """Starts them. ``logs``: where their stderr goes."""

    def __init__(self, logs: AgentLogs | None = None) -> None:
        self.logs = logs or AgentLogs()
        self._keeper = _Keeper()

    async def start(
        self,
        agent: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        cwd: str | None = None,
        hidden: Sequence[str] = (),
    ) -> Child:
        """Start a command. ``hidden``: values that are replaced by ``***`` in what it writes on stderr.
        Raises OSError when it can't be started."""
        mark = secrets.token_hex(16)
        await self._keeper.tell(f"+ {mark}")
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**environment, reaper.MARK: mark},
                cwd=cwd,
                start_new_session=True,
                limit=CHUNK,
            )
        except BaseException:
            await self._keeper.tell(f"- {mark}")
            raise
        await self._keeper.tell(f"= {mark} {process.pid}")
        return Child(agent, process, mark, self.logs.of(agent), hidden, self._keeper)

    async def aclose(self) -> None:
        """All children have been stopped: nobody need watch over them any more."""
        await self._keeper.aclose()


class Child:
    """A running one. ``tail``: the last lines that it wrote on stderr."""

    def __init__(
        self,
        agent: str,
        process: asyncio.subprocess.Process,
        mark: str,
        kept: AgentLog,
        hidden: Sequence[str],
        keeper: _Keeper,
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.agent = agent
        self.stdin = process.stdin
        self.stdout = process.stdout
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._process = process
        self._mark = mark
        self._log = kept
        self._hidden = [value.encode() for value in sorted(hidden, key=len, reverse=True)]
        self._keeper = keeper
        self._swept = False
        self._drainer = asyncio.create_task(self._drain())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.returncode

    async def wait(self, seconds: float) -> int | None:
        """Its exit status, waited for so long; None if it still runs."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), seconds)
        return self._process.returncode

    async def stop(self) -> None:
        """Nobody reads its stdout any more: close its stdin; if it does not end by itself, end it, and all
        that it started."""
        self.stdin.close()
        for signum in (signal.SIGTERM, signal.SIGKILL):
            if await self.wait(GRACE) is not None:
                break
            self._signal(signum)
        await self.kill()

    async def kill(self) -> None:
        """Nobody reads its stdout any more: end it, and all that it started, at once."""
        self._signal(signal.SIGKILL)  # also what is left of its group
        if self._swept:
            return
        self._swept = True
        await asyncio.to_thread(reaper.end, {self._mark: None}, signal.SIGKILL)
        # The end of its pipes is waited for, too, which something that was not found may hold.
        emptied = asyncio.create_task(self._empty())
        await asyncio.wait([emptied, self._drainer], timeout=GRACE)
        emptied.cancel()
        self._drainer.cancel()
        await self.wait(GRACE)
        await self._keeper.tell(f"- {self._mark}")
        await self._note(f"{ENDED}{self._process.returncode}]")

    async def _empty(self) -> None:
        """Drop what is left of its stdout: unread, it would keep the pipe."""
        while await self.stdout.read(CHUNK):
            pass

    def _signal(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signum)

    # --- stderr ------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Keep it from blocking on a full pipe. What it writes is kept without what is hidden."""
        assert self._process.stderr is not None
        await self._note(STARTED)
        rest = b""
        while chunk := await self._process.stderr.read(CHUNK):
            *lines, rest = self._masked(rest + chunk).split(b"\n")
            if len(rest) > CHUNK:  # no line; its end may be half of what is hidden
                lines.append(rest[:-4096])
                rest = rest[-4096:]
            await self._keep(lines)
            if len(chunk) >= CHUNK // 4:
                await asyncio.sleep(PAUSE)
        await self._keep([rest])

    def _masked(self, data: bytes) -> bytes:
        for value in self._hidden:
            data = data.replace(value, b"***")
        return data

    async def _keep(self, lines: Sequence[bytes]) -> None:
        texts = [line.decode("utf-8", "replace").rstrip("\r") for line in lines if line.strip()]
        if not texts:
            return
        self.tail.extend(text[:2000] for text in texts[-TAIL:])
        log.debug(
            "%s stderr: %s", self.agent, "\n".join(self.tail) if len(texts) > TAIL else "\n".join(texts)
        )
        await asyncio.to_thread(self._log.write, self.pid, texts)

    async def _note(self, line: str) -> None:
        await asyncio.to_thread(self._log.write, self.pid, [line])


class _Keeper:
    """The reaper of this process, started with the first child."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._children: dict[str, str] = {}  # what was said of each, by mark
        self._turn = asyncio.Lock()

    async def tell(self, line: str) -> None:
        """Say it, to another reaper if the one there was has gone."""
        what, mark, *_ = line.split()
        if what == "-":
            self._children.pop(mark, None)
        else:
            self._children[mark] = line
        async with self._turn:
            process = self._process
            if process is None or process.returncode is not None:
                if self._children:
                    await self._start()
                return
            self._write(process, line)

    async def _start(self) -> None:
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(Path(reaper.__file__)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except OSError as e:
            log.warning("agents that are processes may outlive a gateway that is killed: %s", e.strerror)
            return
        for known in self._children.values():
            self._write(self._process, known)

    def _write(self, process: asyncio.subprocess.Process, line: str) -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError, RuntimeError):
            process.stdin.write(line.encode() + b"\n")

    async def aclose(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            await process.wait()


def worth_hiding(values: Sequence[str]) -> list[str]:
    """What to look for of such values: their lines, where they can be told from ordinary words."""
    lines = [line.strip() for value in values for line in value.splitlines()]
    return [line for line in dict.fromkeys(lines) if len(line) >= SHORT]
