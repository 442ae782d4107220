"""The audit log on disk: appended, private, bounded, and never a reason for a call to fail."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from pathlib import Path

import pytest

from agentgw.registry import auditfile
from agentgw.registry.auditfile import AuditFile

LINE = b'{"event":"call"}\n'  # 17 bytes


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


async def test_lines_are_appended_to_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for _ in range(2):  # a second process goes on with it
        log = AuditFile(path, 1000, 2)
        assert await log.write(LINE) == 0
        assert await log.write(LINE * 2) == 0
        log.close()
    assert path.read_bytes() == LINE * 6
    assert path.stat().st_mode & 0o777 == 0o600


async def test_full_files_step_back_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditFile(path, 40, 2)
    for number in range(9):
        await log.write(b'{"n":%d}\n' % number * 4)  # 32 bytes: one of them fits
    log.close()
    found = {name: content[5:6] for name, content in files(tmp_path).items()}
    assert found == {"audit.jsonl": b"8", "audit.jsonl.1": b"7", "audit.jsonl.2": b"6"}
    assert all((tmp_path / name).stat().st_mode & 0o777 == 0o600 for name in found)


async def test_none_is_kept_where_none_is_wanted(tmp_path: Path) -> None:
    log = AuditFile(tmp_path / "a", 20, 0)
    for _ in range(5):
        await log.write(LINE)
    log.close()
    assert files(tmp_path) == {"a": LINE}


async def test_many_writers_lose_nothing_while_files_step_back(tmp_path: Path) -> None:
    log = AuditFile(tmp_path / "a", 200, 1000)
    await asyncio.gather(*(log.write(b"%04d\n" % number) for number in range(500)))
    log.close()
    found = b"".join(files(tmp_path).values())
    assert sorted(found.split()) == [b"%04d" % number for number in range(500)]


async def test_who_moves_the_file_away_finds_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditFile(path, 1000, 2)
    await log.write(LINE)
    path.rename(tmp_path / "moved")
    await log.write(LINE)
    path.unlink()
    await log.write(LINE)
    log.close()
    assert path.read_bytes() == (tmp_path / "moved").read_bytes() == LINE


async def test_a_line_that_was_torn_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(LINE + b'{"ev')  # the machine went down
    log = AuditFile(path, 1000, 2)
    await log.write(LINE)
    log.close()
    assert path.read_bytes() == LINE + b'{"ev\n' + LINE


async def test_a_full_disk_is_said_once_and_costs_nothing_but_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, write, room = tmp_path / "audit.jsonl", os.write, 20

    def full(fd: int, data: memoryview) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part, room = data[:room], 0
        return write(fd, part)

    log = AuditFile(path, 1000, 2)
    monkeypatch.setattr(auditfile.os, "write", full)
    with caplog.at_level(logging.WARNING, "agentgw.audit"):
        for _ in range(5):
            assert await log.write(LINE * 2) == 0
        assert len(caplog.records) == 1
        assert "No space left" in caplog.text
        monkeypatch.setattr(auditfile.os, "write", write)
        assert await log.write(LINE) == 10
        assert await log.write(LINE) == 0
    assert len(caplog.records) == 2
    log.close()
    assert path.read_bytes() == LINE + LINE[:3] + b"\n" + LINE * 2


@pytest.mark.parametrize("place", ["missing/audit.jsonl", "."])
async def test_a_place_that_can_not_be_is_said_and_no_more(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = AuditFile(tmp_path / place, 1000, 2)
    for _ in range(3):
        assert await log.write(LINE) == 0
    assert len(caplog.records) == 1


async def test_a_pipe_never_steps_back(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = AuditFile(path, 20, 2)
    for _ in range(5):
        await log.write(LINE)
    log.close()
    assert os.read(reader, 1000) == LINE * 5
    os.close(reader)
    assert os.listdir(tmp_path) == ["pipe"]
