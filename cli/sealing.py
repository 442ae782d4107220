"""The work behind ``agentgw seal``."""

from __future__ import annotations

from .find import control
from .terminal import print_json


async def rotate(keep: float, as_json: bool) -> None:
    """Rotate, and say what opens until when."""
    async with control() as here:
        done = await here.rotate_seal(keep)
    if as_json:
        print_json(done)
        return
    print(f"a new key seals from now on; sealed anew in the store: {done.resealed}")
    for until in done.former:
        print(f"a former key can still be read with until {until}")
