"""Real processes for tests: on free loopback ports, waited for, shown on failure, ended as a group."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import httpx2
import pytest

from .support import examples
from .support.forked import Forked
from .support.ports import find_port
from .support.trust import read_once

ROOT = Path(__file__).resolve().parent.parent
TAIL = 4000
# Seconds: a test that waits longer for one thing has failed; a busy machine is slow, not wrong.
PATIENCE = 60.0
_running: list[Process] = []

# httpx gives up after 5 s by itself, which says more about the machine than about the gateway.
vars(httpx._config.DEFAULT_TIMEOUT_CONFIG).update(
    dict.fromkeys(("connect", "read", "write", "pool"), PATIENCE)
)
for transports in (httpx._transports.default, httpx2._transports.default):
    read_once(transports)


def wait_until(what: str, check: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """The first truthy answer of `check`, asked again and again until the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.02)
    raise TimeoutError(f"not within {seconds} s: {what}")


@dataclass
class Process:
    """A child in a process group of its own, its output in a file."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    shown: int = 0  # how much of the log there was before the running test

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def stdin(self) -> IO[bytes]:
        assert self.popen.stdin is not None
        return self.popen.stdin

    def listens(self, port: int) -> bool:
        if self.popen.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.popen.returncode}:\n{self.output[-TAIL:]}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def stop(self, signum: int = signal.SIGTERM, seconds: float = PATIENCE) -> int:
        """End the whole group; the exit status of its leader."""
        # A group whose leader has ended before may not exist any more, and its number be another's.
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signum)
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.popen.pid, signal.SIGKILL)
        finally:
            self.popen.wait()
            if self in _running:
                _running.remove(self)
            for stream in (self.popen.stdin, self.popen.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):  # of what was written and never read
                        stream.close()
        return self.popen.returncode


Spawn = Callable[..., Process]


@pytest.fixture(scope="session")
def spawn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawn]:
    """Start a command; with `port`, return once it listens there."""
    logs = tmp_path_factory.mktemp("logs")

    def start(
        name: str,
        command: Sequence[str | Path],
        *,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        pipes: bool = False,
        **options: Any,
    ) -> Process:
        log = logs / f"{name}-{len(list(logs.iterdir()))}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else out,
                stderr=out,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                **options,
            )
        process = Process(name, popen, log)
        _running.append(process)
        if port is not None:
            wait_until(f"{name} listens on {port}", lambda: process.listens(port), seconds=120)
        return process

    yield start
    while _running:
        _running[-1].stop()


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    return find_port


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """wait_until, for tests."""
    return wait_until


@pytest.fixture(scope="session")
def agentgw() -> Path:
    """The console script of the environment that runs the tests."""
    script = Path(sys.executable).parent / "agentgw"
    found = script if script.exists() else shutil.which("agentgw")
    assert found, "the console script agentgw is not installed: uv sync"
    return Path(found)


@pytest.fixture(scope="session")
def forked(agentgw: Path) -> Iterator[Forked]:
    """Runs the console script's commands without starting an interpreter for each."""
    made = Forked(agentgw)
    yield made
    made.close()


def pytest_configure(config: pytest.Config) -> None:
    examples.begin(whole=config.option.markexpr != "not slow")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getoption("dist") != "loadgroup":
        return None
    from .support.sharing import Sharing

    return Sharing(config, log)


# What takes long begins first, so that no worker is left with it at the end.
FIRST = ("survival/", "e2e/", "faults/", "fuzz/", "cli/", "soak/")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long first. And CI's second run tries properties again, with all their examples."""
    for item in items:
        file = item.path.relative_to(Path(__file__).parent).as_posix()
        tried = file.startswith("fuzz/") or hasattr(getattr(item, "obj", None), "hypothesis")
        if tried and config.option.markexpr == "slow":
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: _rank(item.path.relative_to(Path(__file__).parent).as_posix()))


def _rank(file: str) -> int:
    return next((at for at, folder in enumerate(FIRST) if file.startswith(folder)), len(FIRST))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for process in _running:
        process.shown = process.log.stat().st_size


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """On failure, show what each process wrote during the test."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.when == "teardown" or not report.failed:
        return
    for process in _running:
        if fresh := process.log.read_bytes()[process.shown :].decode(errors="replace").strip():
            report.sections.append((f"log of {process.name}", fresh[-TAIL:]))
