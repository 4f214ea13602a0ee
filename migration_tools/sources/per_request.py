"""What is the same in every source that knows single requests."""

from collections.abc import Iterator

from migration_tools.source import DaySpan, Directory
from shared.core.rows import UnmeteredRow, UserRow


class SingleRequests:
    """The part of a Source that knows no organizations: its days are those of the ledger's zone."""

    whole_days = False
    keeps_source = False

    def __init__(self, zone: str) -> None:
        self._zone = zone

    def zone_of(self, organization_id: str) -> str:
        """Return the ledger's zone, whatever the organization."""
        return self._zone

    def directory(self) -> Directory:
        """Return nothing: organizations are in the summaries already, or in another source."""
        return Directory()

    def side_rows(self, span: DaySpan) -> Iterator[UnmeteredRow | UserRow]:
        """Return nothing beside the events."""
        return iter(())
