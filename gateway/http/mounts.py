"""Which door a request goes to: by the first segment of its path, else the face that claims it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..errors import CallerError
from ..ports import Face, Handler
from ..readable import UNREADABLE
from .request import Request

Mount = tuple[Face, Handler, str, str]  # whose door, its name, what of the path follows it


class Mounts:
    """The doors of all faces."""

    def __init__(self, faces: Sequence[Face]) -> None:
        self._faces = faces
        self._mounts: dict[str, tuple[Face, Handler]] = {
            prefix: (face, handler) for face in faces for prefix, handler in face.mounts()
        }

    def at(self, path: str) -> Mount | None:
        """The door by the first segment of the path, if it is one's."""
        end = path.find("/", 1)
        prefix = path if end < 0 else path[:end]
        found = self._mounts.get(prefix)
        return None if found is None else (*found, prefix[1:], path[len(prefix) :])

    async def door(self, request: Request, *, read: bool) -> tuple[Face | None, Handler | None]:
        """The face for the request's path, and who serves it; None: the control plane. ``read``: whether the
        body may be read to find out. Sets the request's ``door`` and ``rest``."""
        mount = self.at(request.path)
        if mount is not None:
            face, door, request.door, request.rest = mount
            return face, door
        envelope: Mapping[str, Any] | None = None
        if request.path == "/" and request.method == "POST":
            envelope = await _envelope(request) if read else {}
        for face in self._faces:
            if face.claims(request, envelope):
                request.door = "root"
                return face, face.root
        return None, None


async def _envelope(request: Request) -> Mapping[str, Any]:
    """The JSON object in a POST to the bare address; {} for anything else (some face must answer it)."""
    try:
        value: Any = msgspec.json.decode(await request.body())
    except (*UNREADABLE, CallerError):  # the face meets the same, and says so in its own form
        return {}
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]
