"""Names that nobody can guess: random UUIDs, whoever asks for one."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentgw.gateway.ids import new_id

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_each_is_another_uuid_of_version_4_in_all_threads() -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: [new_id() for _ in range(500)], range(16)))
    ids = [id for some in found for id in some]
    assert len(set(ids)) == 8000
    assert all(UUID4.fullmatch(id) for id in ids)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks on Windows")
def test_a_forked_process_gives_out_others() -> None:
    new_id()
    read, write = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(write, "\n".join(new_id() for _ in range(20)).encode())
        finally:
            os._exit(0)
    os.close(write)
    mine = {new_id() for _ in range(20)}
    with os.fdopen(read) as file:
        theirs = set(file.read().split())
    os.waitpid(child, 0)
    assert len(theirs) == 20
    assert not mine & theirs
