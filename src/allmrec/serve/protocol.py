"""HTTP/1.1 that waits for a request's head only so long: a slow client must not hold a connection for nothing."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["PacedProtocol", "paced"]

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class PacedProtocol(H11Protocol):
    """uvicorn's protocol with a limit on the head; the body's is the guard's."""

    seconds: ClassVar[float] = 10.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._begin()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_hand():
            self._end()
        elif self._timer is None:
            # Bytes came, and no request of them is in hand: a head that has only begun.
            self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def _in_hand(self) -> bool:
        """Whether a request is being answered."""
        cycle: Any = self.cycle  # None until the first request, which uvicorn's own annotation does not say
        return cycle is not None and not cycle.response_complete

    def _begin(self) -> None:
        self._timer = self.loop.call_later(self.seconds, self._give_up)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing() and not self._in_hand():
            self.transport.write(_TOO_SLOW)
            self.transport.close()


def paced(seconds: float) -> type[PacedProtocol]:
    """The protocol with another limit."""
    return type("PacedProtocol", (PacedProtocol,), {"seconds": seconds})
