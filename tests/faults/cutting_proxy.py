"""A proxy that loses acknowledgements: the server did what it was asked, nobody hears of it."""

import contextlib
import socket
from random import Random
from threading import Thread
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 65_536


class CuttingProxy:
    """Passes connections on to a server; answers are cut off with a chance of `cut_chance`.

    What is left of a cut answer is nothing or its first few bytes. `cuts` counts them.
    """

    def __init__(self, server_url: str, random: Random) -> None:
        place = urlsplit(server_url)
        self._server = (place.hostname or "", place.port or 0)
        self._random = random
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.cut_chance = 0.0
        self.cuts = 0

    def __enter__(self) -> Self:
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            Thread(target=self._pass_on, args=(client, server), daemon=True).start()
            Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                target.sendall(data)
        _end(source, target)

    def _answer(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if self._random.random() < self.cut_chance:
                    self.cuts += 1
                    target.sendall(data[: self._random.choice([0, 0, 7, 40])])
                    break
                target.sendall(data)
        _end(source, target)


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        # The other thread may wait in recv: shutting down wakes it, closing alone would not.
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
