"""Serving: the sidecar as a process, from its first log line to a graceful end."""

import logging
import signal
import sys

from scheduler.api.app import create_app
from scheduler.api.server import ApiServer
from scheduler.process.running import RunningSidecar
from shared.settings import Settings

log = logging.getLogger("owui_usage")

_CLOCK_CHECK_SECONDS = 5.0


def serve(settings: Settings) -> None:
    """Run the sidecar and its API until SIGTERM or Ctrl-C. Raises UsageError when it cannot start.

    It ends gracefully: current requests and jobs are finished, leases and leadership given up.
    """
    _begin_logging()
    with RunningSidecar(settings) as sidecar:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sidecar.stop.set())
        server = ApiServer(create_app(sidecar), settings.usage_bind, settings.usage_port)
        try:
            sidecar.start()
            server.start()
            log.info(
                "sidecar %s started: API on http://%s:%d, spools in %s",
                sidecar.version,
                settings.usage_bind,
                server.port,
                settings.usage_spool_dir.resolve(),
            )
            _log_unusual_settings(settings)
            while not sidecar.stop.wait(_CLOCK_CHECK_SECONDS):
                sidecar.follow_clock()
            log.info("sidecar stops")
        finally:
            server.stop()


def _log_unusual_settings(settings: Settings) -> None:
    if settings.usage_admin_token is None:
        log.warning("the admin API is closed until USAGE_ADMIN_TOKEN is set")
    if settings.webhook_to_influx != settings.influxdb_first_enabled:
        store = "InfluxDB" if settings.webhook_to_influx else "the embedded store"
        log.info("what the webhook books goes to %s, as INFLUXDB_FIRST_MODE says", store)


def _begin_logging() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    # What they log below warnings, our own log has once and with a reason.
    for name in ("apscheduler", "uvicorn", "httpx", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns of every second that a job takes longer than its interval: a delivery that waits.
    logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)
