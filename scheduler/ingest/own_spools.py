"""The sidecar's own spools: what is posted to it becomes durable in them."""

from collections import Counter
from typing import Self

from scheduler.process.sidecar import WEBHOOK_SPOOL, spool_settings
from shared.core.clock import Clock
from shared.settings import Settings
from shared.spool.port import SpoolStatus
from shared.spool.sqlite_spool import SqliteSpool


class OwnSpools:
    """One spool for manual records and what the sidecar says of itself, one for the webhook.

    They may be delivered to different stores.
    """

    def __init__(self, manual: SqliteSpool, webhook: SqliteSpool) -> None:
        self.manual = manual
        self.webhook = webhook

    @classmethod
    def open(cls, settings: Settings, clock: Clock) -> Self:
        """Open both in the shared folder. Raises SpoolError when that cannot be."""
        manual, webhook = (
            SqliteSpool(
                settings.usage_spool_dir / name, settings=spool_settings(settings), clock=clock
            )
            for name in ("sidecar.sqlite3", WEBHOOK_SPOOL)
        )
        return cls(manual, webhook)

    def status(self) -> list[SpoolStatus]:
        """Return how both stand."""
        return [self.manual.status(), self.webhook.status()]

    def counters(self) -> Counter[str]:
        """Return what both have counted together, by reason."""
        counted = Counter(self.manual.counters())
        counted.update(self.webhook.counters())
        return counted

    def close(self) -> None:
        """Commit what waits and close both files."""
        self.manual.close()
        self.webhook.close()
