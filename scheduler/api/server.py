"""The HTTP server: uvicorn in a thread, ended when the process is told to stop."""

import socket
from threading import Thread

import uvicorn
from fastapi import FastAPI

from shared.errors import ConfigError

_GRACE_SECONDS = 5


class ApiServer:
    """Port 0 takes a free one. Raises ConfigError for a port in use."""

    def __init__(self, app: FastAPI, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            self._socket = socket.create_server((address, port), family=family, backlog=128)
        except OSError as error:
            problem = f"cannot be listened on at {address}: {error.strerror or error}"
            raise ConfigError("USAGE_PORT", port, problem) from error
        # asyncio sets it only on sockets that name their protocol, and these do not; without it an
        # answer's body waits 40 ms for the acknowledgement of its head.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,  # a path can name a person
                server_header=False,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )
        self._thread = Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name="owui_usage api",
            daemon=True,
        )

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish current requests, for a few seconds at most, and end."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_GRACE_SECONDS + 2)
        self._socket.close()
