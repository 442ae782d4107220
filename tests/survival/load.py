"""What clients do to a gateway until it dies under them, and what they were told."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from ..conftest import PATIENCE
from .conftest import Gateway

LOST = 5.0  # seconds before a crash whose tasks may be lost with it (written every 0.2 s; a busy machine)
_DIED = (502, 503)  # the process that was to answer is gone: nobody knows what became of the request
AWAY = "http://127.0.0.1:9/"  # an agent that is not there: registered all the same


@dataclass
class Told:
    """What was acknowledged. ``maybe``: asked for, and not answered any more."""

    there: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    maybe: set[str] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)  # name → secret
    revoked: dict[str, str] = field(default_factory=dict)
    runs: dict[str, float] = field(default_factory=dict)  # id → when it was acknowledged
    written: set[str] = field(default_factory=set)  # of those: in the store before the crash


class Load:
    """Registers, removes and calls, from several threads, in an order that ``seed`` gives."""

    def __init__(self, gateway: Gateway, told: Told, agents: dict[str, str], seed: str) -> None:
        self.told = told
        self._gateway = gateway
        self._agents = agents  # name → what to say to it
        self._seed = seed
        self._stopped = threading.Event()
        owner = json.loads((gateway.home / "owner.json").read_bytes())
        self._headers = {"authorization": f"Bearer {owner['token']}"}
        jobs: list[Callable[[random.Random, httpx.Client], None]]
        jobs = [self._register, self._key, self._call, self._call]
        self._threads = [threading.Thread(target=self._keep, args=(n, job)) for n, job in enumerate(jobs)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _keep(self, number: int, job: Callable[[random.Random, httpx.Client], None]) -> None:
        chance = random.Random(f"{self._seed}-{number}")
        with httpx.Client(base_url=self._gateway.url, timeout=PATIENCE, headers=self._headers) as client:
            while not self._stopped.is_set():
                try:
                    job(chance, client)
                except httpx.TransportError:
                    self._stopped.wait(0.02)

    def _register(self, chance: random.Random, client: httpx.Client) -> None:
        told = self.told
        if told.there and chance.random() < 0.3:
            name = chance.choice(sorted(told.there))
            told.maybe.add(name)
            told.there.discard(name)
            try:
                answer = client.delete(f"/api/agents/{name}")
            except httpx.ConnectError:  # nobody was there, and nothing was asked
                told.there.add(name)
                told.maybe.discard(name)
                raise
            if answer.status_code in _DIED:
                return
            assert answer.status_code in (200, 204), answer.text
            told.gone.add(name)
        else:
            name = (
                f"r-{self._seed}-{len(told.there) + len(told.gone) + len(told.maybe)}-{chance.randrange(999)}"
            )
            told.maybe.add(name)
            spec = {"name": name, "url": AWAY, "protocol": "a2a"}
            answer = client.post("/api/agents", json=spec)
            if answer.status_code in _DIED:
                return
            assert answer.status_code in (200, 201), answer.text
            told.there.add(name)
        told.maybe.discard(name)

    def _key(self, chance: random.Random, client: httpx.Client) -> None:
        keys = self.told.keys
        if keys and chance.random() < 0.3:
            name = chance.choice(sorted(keys))
            secret = keys.pop(name)  # whatever comes of it: it may be revoked
            try:
                answer = client.post(f"/api/keys/{name}/revoke")
            except httpx.ConnectError:
                keys[name] = secret
                raise
            if answer.status_code == 200:
                self.told.revoked[name] = secret
        else:
            name = f"k-{self._seed}-{chance.randrange(10**9)}"
            answer = client.post("/api/keys", json={"name": name})
            if answer.status_code == 201:
                keys[name] = answer.json()["secret"]
        self._stopped.wait(0.03)

    def _call(self, chance: random.Random, client: httpx.Client) -> None:
        name = chance.choice(sorted(self._agents))
        text, _, media_type = self._agents[name].partition("|")
        parts = [{"content_type": media_type or "text/plain", "content": text}]
        body = {"agent_name": name, "mode": "async", "input": [{"role": "user", "parts": parts}]}
        answer = client.post("/acp/runs", json=body)
        assert answer.status_code in (202, *_DIED), answer.text
        if answer.status_code == 202:
            self.told.runs[answer.json()["run_id"]] = time.monotonic()
        self._stopped.wait(0.03)
