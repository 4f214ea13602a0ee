"""The thread that delivers inside a host, which may drop it without a word."""

import logging
import os
import threading
from weakref import finalize

from shared.delivery.delivery import Delivery
from shared.errors import SpoolError

logger = logging.getLogger("owui_usage")


class DeliveryThread:
    """Runs a delivery every `interval_seconds` in one daemon thread, begun on first use.

    The thread knows the delivery and the stop event, never this object: when the host forgets its
    owner, the stop event is set, waits end, and so does the thread. `stop` must be the event that
    the delivery was made with.
    """

    def __init__(
        self, delivery: Delivery, stop: threading.Event, interval_seconds: float = 1.0
    ) -> None:
        self._delivery = delivery
        self._stop = stop
        self._interval_seconds = interval_seconds
        self._thread: threading.Thread | None = None
        self._pid = 0
        finalize(self, stop.set)

    def start(self) -> None:
        """Begin unless it runs already; in a forked child, where threads are lost, begin anew."""
        is_running = self._thread is not None and self._thread.is_alive()
        if self._stop.is_set() or (is_running and self._pid == os.getpid()):
            return
        self._pid = os.getpid()
        self._thread = threading.Thread(
            target=_deliver_until_stopped,
            args=(self._delivery, self._stop, self._interval_seconds),
            name="usage-delivery",
            daemon=True,
        )
        self._thread.start()

    def stop(self, timeout_seconds: float = 5.0) -> bool:
        """End waits and finish the batch at hand; tell whether the thread ended in time.

        What is not delivered stays in the spool.
        """
        self._stop.set()
        if self._thread is None or self._pid != os.getpid():
            return True
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()


def _deliver_until_stopped(
    delivery: Delivery, stop: threading.Event, interval_seconds: float
) -> None:
    last_error = ""
    while not stop.is_set():
        try:
            delivery.run_once()
            last_error = ""
        except Exception as error:  # noqa: BLE001 a job of the host: it must go on
            message = f"{type(error).__name__}: {error}"
            if message != last_error:
                logger.warning("delivery failed: %s", message)
            last_error = message
        stop.wait(interval_seconds)
    _release(delivery)


def _release(delivery: Delivery) -> None:
    try:
        delivery.release()
    except SpoolError as error:
        logger.warning("the delivery lease was left to expire: %s", error)
