"""Several addresses of one cluster: where one does not answer, the next is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, TypeVar

_Answer = TypeVar("_Answer")


class Nodes:
    """What stands for a client of the cluster: its methods are those of the clients of each node.

    A request goes to the node that answered last. One that fails for a passing reason goes to the next
    node, and when all have failed, after a pause, to all of them again: ``attempts`` rounds, none of them
    begun after ``timeout`` seconds. Every request of ours is idempotent: one that a node carried out and did
    not answer may be sent again.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        connect: Callable[[str], Any],
        *,
        passing: Callable[[Exception], bool],
        attempts: int,
        timeout: float,
        pause: float,
    ) -> None:
        """``connect`` makes a client of an address, ``passing`` tells which errors are worth another node.

        ``pause`` seconds are waited before the second round, three times as long before each further one,
        10 s at most.
        """
        self._addresses = tuple(addresses)
        self._connect = connect
        self._passing = passing
        self._attempts = attempts
        self._timeout = timeout
        self._pause = pause
        self._clients: dict[int, Any] = {}
        self._answering = 0
        self._lock = Lock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *values, **named: self.call(lambda client: getattr(client, name)(*values, **named))

    def call(self, request: Callable[[Any], _Answer]) -> _Answer:
        """What ``request`` gives of the client of a node that answers; raises the last node's error."""
        begun, pause = time.monotonic(), self._pause
        for attempt in range(self._attempts):
            for _ in self._addresses:
                number = self._answering
                try:
                    return request(self._client(number))
                except Exception as error:
                    if not self._passing(error):
                        raise
                    failed = error
                    self._leave(number)
            if attempt + 1 == self._attempts or time.monotonic() + pause - begun > self._timeout:
                break
            time.sleep(pause)
            pause = min(3 * pause, 10.0)
        raise failed

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _client(self, number: int) -> Any:
        with self._lock:
            if number not in self._clients:
                self._clients[number] = self._connect(self._addresses[number])
            return self._clients[number]

    def _leave(self, number: int) -> None:
        """Ask the next node from now on, unless another thread has left this one already."""
        with self._lock:
            if self._answering == number:
                self._answering = (number + 1) % len(self._addresses)
