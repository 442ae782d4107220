"""Which worker has what, where several processes are one gateway (``serve --workers``).

What lives in one process's memory (a running task, a conversation, a session) is found by its id: the id's
*home* is a worker's number, and every worker comes to the same one without asking. An id that is made here
says so itself: its last twelve digits are a checksum of the others, mixed with the number. One that comes
from elsewhere (an agent's own, a client's, one of an earlier start) has the home that its text gives by
chance, unless a worker has claimed it before: the first to keep something under it. Claims stand in a table
in memory that all workers share; past its room old ones are overwritten, and then chance decides again, which
costs what is only in memory.
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
_TAIL = 12  # hexadecimal digits that say which worker made an id; of a UUID all of them are random else
_SPREAD = 0x9E3779B97F4B  # odd: spreads 32 bits over the 48 of the tail
_48 = (1 << 48) - 1


class Homes:
    """As worker ``number`` of ``count`` sees it. ``table``: a file of ``TABLE_BYTES`` bytes, all zero at
    first, that all workers have open. ``key``: the same for all of them, another one at each start. By
    default there is one worker, the home of everything. A ``number`` of none of them (-1): a process that
    nothing has its home in."""

    def __init__(self, number: int = 0, count: int = 1, table: int | None = None, key: bytes = b"") -> None:
        self.number = number
        self.count = count
        self._seed = crc32(key)
        self._table = None if table is None else memoryview(mmap.mmap(table, TABLE_BYTES)).cast("Q")

    def of(self, id: str) -> int:
        """The number of the worker that ``id`` has its home in. Upper and lower case are one."""
        if self.count == 1:
            return 0
        text = id.lower().encode()
        maker = self._maker(text)
        if maker is not None:
            return maker
        if self._table is not None:
            slot, mark = _place(text)
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
        return f"{head}{self._sum(head.lower().encode()) ^ self.number:012x}"

    def claim(self, id: str) -> None:
        """Something is kept here under an id that was made elsewhere: its home is here from now on, unless
        another worker was first, or has made it."""
        table = self._table
        if table is None or self.number < 0:
            return
        text = id.lower().encode()
        if self._maker(text) is not None:
            return
        slot, mark = _place(text)
        free = None
        for at in range(slot, slot + WAYS):
            claim = table[at]
            if not claim:  # they fill up in order
                free = at
                break
            if claim >> 8 == mark:
                return
        at = slot + randbits(8) % WAYS if free is None else free
        table[at] = mark << 8 | 0x80 | self.number

    def _maker(self, text: bytes) -> int | None:
        """Which worker has made it; None for one from elsewhere."""
        try:
            number = int(text[-_TAIL:], 16) ^ self._sum(text[:-_TAIL])
        except ValueError:
            return None
        return number if 0 <= number < self.count else None  # a sign may stand among a client's digits

    def _sum(self, head: bytes) -> int:
        """No secret (who knows some ids can compute it): what nobody can guess of an id is its head."""
        return crc32(head, self._seed) * _SPREAD & _48


def _place(text: bytes) -> tuple[int, int]:
    """Where claims of an id stand, and what marks them as its own."""
    digest = int.from_bytes(blake2b(text, digest_size=8).digest())
    return digest % BUCKETS * WAYS, digest >> 8
