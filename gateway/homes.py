"""Which worker has what, where several processes are one gateway (``serve --workers``).

What lives in one process's memory (a running task, a conversation, a session) is found by its id: the id's
*home* is a worker's number, and every worker comes to the same one without asking. An id that is made here
has its home here (the last digits are chosen so). One that comes from elsewhere (an agent's own, a client's)
has the home that its text gives by chance, unless a worker has claimed it before: the first to keep something
under it. Claims stand in a table in memory that all workers share; past its room old ones are overwritten,
and then chance decides again, which costs what is only in memory.
"""

from __future__ import annotations

import mmap
from hashlib import blake2b
from secrets import randbits
from zlib import crc32

from .ids import new_id

BUCKETS = 1 << 18  # of the table, with WAYS claims each
WAYS = 8
TABLE_BYTES = BUCKETS * WAYS * 8
MOST = 128  # workers
_TAIL = 4  # hexadecimal digits that are chosen


class Homes:
    """As worker ``number`` of ``count`` sees it. ``table``: a file of ``TABLE_BYTES`` bytes, all zero at
    first, that all workers have open. By default there is one worker, the home of everything. A ``number`` of
    none of them (-1): a process that nothing has its home in."""

    def __init__(self, number: int = 0, count: int = 1, table: int | None = None) -> None:
        self.number = number
        self.count = count
        self._table = None if table is None else memoryview(mmap.mmap(table, TABLE_BYTES)).cast("Q")

    def of(self, id: str) -> int:
        """The number of the worker that ``id`` has its home in. Upper and lower case are one."""
        if self.count == 1:
            return 0
        text = id.lower().encode()
        slot, mark = _place(text)
        if self._table is not None:
            for claim in self._table[slot : slot + WAYS]:
                if claim >> 8 == mark:
                    return claim & 0x7F
        return crc32(text) % self.count

    def here(self, id: str) -> bool:
        """Whether this worker is its home."""
        return self.of(id) == self.number

    def new(self, text: str | None = None) -> str:
        """An id whose home is here: a random UUID (version 4), or ``text`` with other last characters."""
        if self.count == 1 or self.number < 0:
            return text or new_id()
        head = (text or new_id())[:-_TAIL]
        sum, start = crc32(head.lower().encode()), randbits(4 * _TAIL)
        for number in range(start, start + (1 << 4 * _TAIL)):
            tail = f"{number & 0xFFFF:04x}"
            if crc32(tail.encode(), sum) % self.count == self.number:
                return head + tail
        raise ValueError(f"no id has its home in worker {self.number} of {self.count}")

    def claim(self, id: str) -> None:
        """Something is kept here under an id that was made elsewhere: its home is here from now on, unless
        another worker was first."""
        table = self._table
        if table is None or self.number < 0:
            return
        slot, mark = _place(id.lower().encode())
        free = None
        for at in range(slot, slot + WAYS):
            claim = table[at]
            if claim >> 8 == mark:
                return
            if not claim and free is None:
                free = at
        at = slot + randbits(8) % WAYS if free is None else free
        table[at] = mark << 8 | 0x80 | self.number


def _place(text: bytes) -> tuple[int, int]:
    """Where claims of an id stand, and what marks them as its own."""
    digest = blake2b(text, digest_size=12).digest()
    return int.from_bytes(digest[:5]) % BUCKETS * WAYS, int.from_bytes(digest[5:])
