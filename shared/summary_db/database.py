"""The database of summaries: SQLite or PostgreSQL, one repository per group of tables."""

from shared.core.clock import SYSTEM_CLOCK, Clock
from shared.projection.organization import OrganizationDefaults
from shared.summary_db.engine import Transactions, open_engine, upgrade_engine
from shared.summary_db.keys_and_rates import CurrencyRates, ManualRecords, OrganizationKeys
from shared.summary_db.organizations import Organizations
from shared.summary_db.reports import UsageReports
from shared.summary_db.runs import Runs
from shared.summary_db.summary_days import SummaryDays
from shared.summary_db.users import Users


def open_summaries(
    database_url: str, defaults: OrganizationDefaults, clock: Clock = SYSTEM_CLOCK
) -> "SummaryDatabase":
    """Open the database of summaries, its schema created or brought up to date.

    Raises ConfigError for a URL that cannot be used and for a database of a later version,
    ProjectionError when the database does not answer.
    """
    engine = open_engine(database_url)
    upgrade_engine(engine)
    return SummaryDatabase(Transactions(engine), defaults, clock)


class SummaryDatabase:
    """The repositories of one database; each of their methods is one transaction."""

    def __init__(self, db: Transactions, defaults: OrganizationDefaults, clock: Clock) -> None:
        self.transactions = db
        self.days = SummaryDays(db, defaults, clock)
        self.runs = Runs(db, clock)
        self.organizations = Organizations(db, defaults, clock)
        self.users = Users(db, defaults, clock)
        self.keys = OrganizationKeys(db, clock)
        self.rates = CurrencyRates(db, clock)
        self.manual_records = ManualRecords(db, clock)
        self.reports = UsageReports(db)

    def close(self) -> None:
        """Close all connections."""
        self.transactions.close()
