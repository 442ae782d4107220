"""Run a Python script that somebody else wrote, within limits, and bring back what it printed and plotted.

In: the script's text. Out: a `Run`: printed output, the bytes of plot.png, and how it ended. The script runs
in a subprocess of its own process group, in a scratch directory that holds prices.csv, with an environment
that carries nothing of ours. It is killed, with all that it started, when its time is up or it prints too
much. This keeps mistakes in; it is no sandbox against malice (see the README). Standard library only.
"""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

PRICES = Path(__file__).with_name("prices.csv")
PLOT = "plot.png"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TIME_LIMIT = 30.0
MAX_OUTPUT = 64 * 1024
MAX_FILE = 4 * 1024 * 1024
MAX_MEMORY = 4 * 1024**3

Ending = Literal["finished", "failed", "timed out", "printed too much"]


@dataclass(frozen=True)
class Run:
    """One run of a script: `ending` is "finished" only for exit status 0."""

    ending: Ending
    output: str
    png: bytes | None

    def report(self) -> str:
        """What the script's author has to know, in plain words."""
        plot = "It saved plot.png." if self.png else "It did not save a valid plot.png."
        return f"The script {self.ending}. {plot}\n{self.output}".strip()


def run_script(code: str, time_limit: float = TIME_LIMIT) -> Run:
    """Run `code` to its end or to `time_limit` seconds, whichever is first. Blocks, never raises."""
    with tempfile.TemporaryDirectory(prefix="analyst-") as name:
        scratch = Path(name)
        shutil.copy(PRICES, scratch / PRICES.name)
        for font_list in font_cache().glob("fontlist-*.json"):
            shutil.copy(font_list, scratch)
        (scratch / "script.py").write_text(code, encoding="utf-8")
        ending, output = _supervise(scratch, time_limit)
        return Run(ending, output, _read_plot(scratch / PLOT))


@cache
def font_cache() -> Path:
    """A directory with matplotlib's list of fonts, built once: else every script would search the disk."""
    directory = Path(tempfile.mkdtemp(prefix="analyst-fonts-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    command = [sys.executable, "-I", "-c", "import matplotlib.font_manager"]
    subprocess.run(command, env=_environment(directory), capture_output=True, timeout=120)
    return directory


def _environment(scratch: Path) -> dict[str, str]:
    """All that the script may know: no keys, no tokens, no home directory."""
    return {
        "PATH": os.defpath,
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": str(scratch),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def _supervise(scratch: Path, time_limit: float) -> tuple[Ending, str]:
    """Start script.py, read what it prints, and make sure that nothing of it is left."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-u", "script.py"],
        cwd=scratch,
        env=_environment(scratch),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    _limit_resources(process.pid)
    timed_out = threading.Event()

    def stop() -> None:
        timed_out.set()
        _kill_group(process.pid)

    timer = threading.Timer(time_limit, stop)
    timer.start()
    output = bytearray()
    try:
        while len(output) <= MAX_OUTPUT and (chunk := os.read(process.stdout.fileno(), 8192)):
            output += chunk
        if len(output) > MAX_OUTPUT:
            _kill_group(process.pid)
        status = process.wait()  # a script may close its output and work on: the timer bounds this, too
    finally:
        timer.cancel()
        _kill_group(process.pid)  # what it started in the background
        process.wait()
        process.stdout.close()
    text = output[:MAX_OUTPUT].decode("utf-8", "replace").strip()
    if timed_out.is_set():
        return "timed out", text
    if len(output) > MAX_OUTPUT:
        return "printed too much", text
    return ("finished" if status == 0 else "failed"), text


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _limit_resources(pid: int) -> None:
    """Bound file size and memory where the system can do that from outside (Linux)."""
    if sys.platform != "linux":
        return
    import resource

    for kind, most in (
        (resource.RLIMIT_FSIZE, MAX_FILE),
        (resource.RLIMIT_AS, MAX_MEMORY),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            resource.prlimit(pid, kind, (most, most))
        except (ProcessLookupError, PermissionError, ValueError):
            pass


def _read_plot(path: Path) -> bytes | None:
    """The plot, if it is a regular file (no link elsewhere) of bearable size that starts like a PNG."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_FILE:
        return None
    data = path.read_bytes()
    return data if data.startswith(PNG_SIGNATURE) else None
