"""What goes wrong, and when: a list of faults in an order that a seed decides."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg

from eventferry import Event, StoreUnavailable
from tests.chaos.landscape import Landscape, Store
from tests.services import query
from tests.waiting import PATIENCE_S, until

HANDS = 3
"""So many faults at a time."""
FROZEN_S = (2.5, 6.5)
"""Longer than the time that a handler has, and in part than a ferry has."""
GONE_S = (1.0, 4.0)
"""How long a black hole lasts, a store is slow, a transaction stays open."""

Strike = Callable[[random.Random], bool]
"""Does harm; False: there was nothing to harm just now."""


@dataclass
class Faults:
    """Strikes a landscape, each kind of fault as often as it is told."""

    landscape: Landscape
    seed: int
    count: Counter[str] = field(default_factory=Counter)
    """What has struck, by kind."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def kinds(self) -> dict[str, Strike]:
        landscape = self.landscape
        crashes = {
            f"{store.name} crashed": lambda chance, store=store: self._crash(store, chance)
            for store in landscape.stores
        }
        return crashes | {
            "worker killed": self._kill,
            "worker frozen": self._freeze,
            "connections cut": self._cut,
            "black hole": self._black_hole,
            "slow network": self._slow,
            "backends terminated": self._terminate,
            "append held open": self._hold,
            "handler raises": self._raise,
            "handler exits": self._exit,
        }

    def strike(self, times: int) -> None:
        """Strikes with all kinds of faults so many times; returns when the last one is over."""
        kinds = list(self.kinds.items()) * times
        random.Random(self.seed).shuffle(kinds)
        left = deque(enumerate(kinds))

        def hand() -> None:
            while True:
                try:
                    number, (kind, strike) = left.popleft()
                except IndexError:
                    return
                chance = random.Random(f"{self.seed} {number}")
                time.sleep(chance.uniform(0.0, 1.0))
                until(lambda: strike(chance), f"{kind} strikes", patience_s=2 * PATIENCE_S)  # noqa: B023
                with self._lock:
                    self.count[kind] += 1

        with ThreadPoolExecutor(HANDS, "hand") as hands:
            for done in [hands.submit(hand) for _ in range(HANDS)]:
                done.result()

    # ---- processes

    def _kill(self, chance: random.Random) -> bool:
        return self.landscape.supervisor.chosen(chance).kill()

    def _freeze(self, chance: random.Random) -> bool:
        return self.landscape.supervisor.chosen(chance).freeze(chance.uniform(*FROZEN_S))

    # ---- stores

    def _crash(self, store: Store, chance: random.Random) -> bool:
        with store.lock:
            store.server.stop(crash=True)
            time.sleep(chance.uniform(0.0, 1.0))
            store.server.start()
        return True

    def _terminate(self, chance: random.Random) -> bool:
        """Some of the connections of workers and writers."""
        with suppress(psycopg.OperationalError):
            return bool(
                query(
                    chance.choice(self.landscape.stores).url,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    " AND random() < %s",
                    (chance.choice([0.2, 1.0]),),
                )
            )
        return False

    # ---- the network

    def _cut(self, chance: random.Random) -> bool:
        return chance.choice(self.landscape.stores).proxy.cut() > 0

    def _black_hole(self, chance: random.Random) -> bool:
        proxy = chance.choice(self.landscape.stores).proxy
        with proxy.black_hole(forgets=chance.random() < 0.5):
            time.sleep(chance.uniform(*GONE_S))
        return True

    def _slow(self, chance: random.Random) -> bool:
        proxy = chance.choice(self.landscape.stores).proxy
        with proxy.slow(chance.uniform(0.01, 0.1)):
            time.sleep(chance.uniform(*GONE_S))
        return True

    # ---- writers, and handlers

    def _hold(self, chance: random.Random) -> bool:
        stream, store = chance.choice(list(self.landscape.streams.items()))
        ledger = self.landscape.ledgers[stream]
        with (
            suppress(psycopg.OperationalError, StoreUnavailable),
            ledger.transaction(store.url, commits=chance.random() < 0.5) as transaction,
        ):
            transaction.append(stream, Event("Held"))
            time.sleep(chance.uniform(*GONE_S))
            return True
        return False

    def _raise(self, chance: random.Random) -> bool:
        return self._tell_handler(chance, times=chance.randint(1, 3))

    def _exit(self, chance: random.Random) -> bool:
        return self._tell_handler(chance, times=0)

    def _tell_handler(self, chance: random.Random, *, times: int) -> bool:
        """Appends an event that a projection fails at; it strikes when that comes to it."""
        reader = chance.choice(self.landscape.readers)
        stream = chance.choice(reader.streams)
        event = Event("Failing", {"fault": {"projection": reader.name, "times": times}})
        store, ledger = self.landscape.streams[stream], self.landscape.ledgers[stream]
        with (
            suppress(psycopg.OperationalError, StoreUnavailable),
            ledger.transaction(store.url, commits=True) as transaction,
        ):
            transaction.append(stream, event)
        return ledger.outcomes.get(event.id) == "committed"
