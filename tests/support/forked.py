"""The command line as processes of its own, without an interpreter being started for each of them: a process
that has imported it forks for every command.

A command has the arguments, environment, directory, standard streams and exit status that it is given, as if
its script had been started; what differs is that its modules are there already. Tests of what is loaded, of
signals and of terminals start the script.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

LARGEST = 100_000  # bytes of a request: what is larger is started as it would be by hand


class Forked:
    """Runs commands; ``close`` when no more come. Threads may share one."""

    def __init__(self, script: Path) -> None:
        self._script = script
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        dropped = ("AGENTGW_", "OTEL_", "FORCE_COLOR", "NO_COLOR")
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={k: v for k, v in os.environ.items() if not k.startswith(dropped)},
            )

    def run(
        self, words: list[str], *, env: Mapping[str, str], cwd: Path | None, input: str, seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """What `subprocess.run` of the script would give, with text captured."""
        command = [str(self._script), *words]
        request = json.dumps([command, dict(env), str(cwd or Path.cwd())]).encode()
        if len(request) > LARGEST or not self._forks(env):
            return subprocess.run(
                command,
                env=env,
                cwd=cwd,
                input=input,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        with contextlib.ExitStack() as stack:
            given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
            given.write(input.encode())
            given.seek(0)
            told, tells = os.pipe()
            stack.callback(os.close, told)
            try:
                files = [given.fileno(), out.fileno(), err.fileno(), tells]
                socket.send_fds(self._socket, [request], files)
            finally:
                os.close(tells)
            status = _status(told, command, seconds)
            return subprocess.CompletedProcess(command, status, _text(out), _text(err))

    def _forks(self, env: Mapping[str, str]) -> bool:
        """Whether a fork is like a start: not with variables that an interpreter reads when it starts."""
        return self._server.poll() is None and not any(
            name.startswith("PYTHON") and os.environ.get(name) != value for name, value in env.items()
        )

    def close(self) -> None:
        """It ends by itself once nobody can ask any more."""
        self._server.terminate()
        self._server.wait()
        self._socket.close()


def _status(told: int, command: list[str], seconds: float) -> int:
    """The exit status, which comes after the process id."""
    deadline, got = time.monotonic() + seconds, b""
    while got.count(b"\n") < 2:
        left = max(deadline - time.monotonic(), 0)
        if not select.select([told], [], [], left)[0]:
            if got:
                os.kill(int(got.split()[0]), signal.SIGKILL)
            raise subprocess.TimeoutExpired(command, seconds)
        piece = os.read(told, 100)
        if not piece:
            raise RuntimeError(f"it is not known how {command} ended")
        got += piece
    return int(got.split()[1])


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


# --- the process that forks --------------------------------------------------------------------------------


def serve(channel: socket.socket) -> Any:
    """Wait for commands. It returns in each of their processes, with what to run there."""
    parent = os.getppid()
    while True:
        if not select.select([channel], [], [], 5)[0]:
            if os.getppid() != parent:
                os._exit(0)  # the tests were killed
            continue
        with contextlib.suppress(ChildProcessError):  # who has ended since
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        request, files, _, _ = socket.recv_fds(channel, 2 * LARGEST, 4)
        if os.fork() == 0:
            channel.close()
            _watched(files[3])
            _become(*json.loads(request), files)
            return
        for file in files:
            os.close(file)


def _watched(tells: int) -> None:
    """Return in a child; this process tells of its end."""
    if (child := os.fork()) == 0:
        return
    os.write(tells, b"%d\n" % child)
    _, status = os.waitpid(child, 0)
    os.write(tells, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(command: list[str], env: dict[str, str], cwd: str, files: list[int]) -> None:
    for at, name in enumerate(("stdin", "stdout", "stderr")):
        os.dup2(files[at], at)
        mode, buffering, errors = ("w", 1, "backslashreplace") if at == 2 else ("wr"[at == 0], -1, "strict")
        setattr(sys, name, open(at, mode, buffering, errors=errors, closefd=False))  # noqa: SIM115
    for file in files:
        os.close(file)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(cwd)
    sys.argv[:] = command


if __name__ == "__main__":
    import gc
    import importlib
    import io
    import pkgutil

    sys.path.pop(0)  # of this file

    from agentgw.cli.main import main, run

    for folder in ("cli", "registry", "adapters", "gateway"):
        package = importlib.import_module(f"agentgw.{folder}")
        for module in pkgutil.walk_packages(package.__path__, f"agentgw.{folder}."):
            if ".grpc" not in module.name:  # its library has threads, which no fork has
                importlib.import_module(module.name)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        run(["--help"])  # loads the rest,
        run(["serve", "--port", "none"])  # and this what reads options, before it is refused
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(end.code or 0))  # at once: what was imported for all need not be taken apart for each
