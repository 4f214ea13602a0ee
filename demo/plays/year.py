"""`make demo-year`: a year of four organizations, booked and projected, with its pages open."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from random import Random

from rich.console import Console

from demo.installation import ROOT
from demo.plays.traffic import a_day
from demo.plays.year_traffic import YearAuthor, YearCharges
from demo.plays.year_world import (
    DAYS,
    EARLIER_MARKUPS,
    MOVED,
    year_clients,
    year_exchange_rates,
    year_people,
)
from demo.stage import Stage
from shared.core.money import format_usd, from_pico, rate_ppm
from shared.core.rows import Row
from shared.event_store.sqlite.store import EmbeddedStore
from shared.projection.organization import ALWAYS, OrganizationDefaults
from shared.spool.port import SpooledRow
from shared.summary_db.database import open_summaries
from shared.summary_db.reports import UsageFilter

FOLDER = ROOT / "var" / "demo-year"
SEED = 20261124
ANSWERS = 195_000
_ANSWERS_OF_TODAY = 60
_BATCH_ROWS = 5000


class Year:
    """A stage with a year of usage; `charges` add up what it is charged."""

    def __init__(self, folder: Path, console: Console) -> None:
        self._console = console
        self._random = Random(SEED)
        self._now = datetime.now(UTC)
        self._clients = year_clients(self._random)
        self.stage = Stage(folder, self._clients)
        self.charges = YearCharges()

    def open(self) -> bool:
        """Book and project the year, start all processes; False when bill and books differ."""
        self._describe()
        began = time.monotonic()
        self._book()
        self._report(f"Booked {self.charges.rows:,} rows of a year", began)
        began = time.monotonic()
        if not self._project():
            return False
        self._report(f"Projected {DAYS} days in every zone", began)
        self.stage.start()
        opening = self._now - timedelta(hours=10)
        answers = list(a_day(self._random, opening, _ANSWERS_OF_TODAY))
        self.stage.play(answers)
        return True

    def _describe(self) -> None:
        """Add dated rates, exchange rates and moves of users."""
        today = self._now.date()
        summaries = open_summaries(self.stage.database_url, OrganizationDefaults())
        for client in self._clients:
            back, before = EARLIER_MARKUPS.get(client.organization_id, (0, ""))
            if before:
                since = today - timedelta(days=back)
                organization_id = client.organization_id
                summaries.organizations.set_rate(organization_id, ALWAYS, rate_ppm(before))
                summaries.organizations.set_rate(
                    organization_id, since, rate_ppm(client.multiplier)
                )
        for source, target, back in MOVED:
            mover = list(next(c for c in self._clients if c.organization_id == source).people)[-1]
            summaries.users.assign(mover, target, self._now - timedelta(days=back))
        summaries.rates.enter(list(year_exchange_rates(self._random, today)))
        summaries.close()

    def _book(self) -> None:
        people = year_people(self._random, self._clients)
        author = YearAuthor(self._random, people, self._now)
        store = EmbeddedStore(self.stage.store_path)
        store.write(_spooled(author.names()))
        for batch in _batches(author.rows(ANSWERS)):
            store.write(_spooled(batch))
        store.close()
        self.charges = author.charges

    def _project(self) -> bool:
        first = self._now.date() - timedelta(days=DAYS)
        last = self._now.date() + timedelta(days=1)
        code, output = self.stage.scheduler("project", "--from", str(first), "--to", str(last))
        self._console.print(f"scheduler project: {output}", soft_wrap=True)
        summaries = open_summaries(self.stage.database_url, OrganizationDefaults())
        [line] = summaries.reports.usage(UsageFilter(start=first, end=last), ())
        summaries.close()
        booked = line.amounts
        total = from_pico(booked.raw_pico_usd + booked.upstream_pico_usd)
        charged = f"{format_usd(self.charges.charged)} USD in {self.charges.bills:,} bills"
        self._console.print(f"charged: {charged}")
        self._console.print(f"booked:  {format_usd(total)} USD in {booked.events:,} bills")
        return code == 0 and (total, booked.events) == (self.charges.charged, self.charges.bills)

    def _report(self, what: str, began: float) -> None:
        self._console.print(f"{what} in {time.monotonic() - began:.0f} s.")


@contextmanager
def opened_year(console: Console) -> Iterator[Stage]:
    """Open a year, stop its stage in the end; exits with 1 when bill and books differ."""
    year = Year(FOLDER, console)
    with year.stage.opened(console):
        if not year.open():
            console.print("[bold red]bill and books differ[/]")
            sys.exit(1)
        console.print("[bold green]The books hold the bill of the year, to the last digit.[/]")
        yield year.stage


def main() -> None:
    console = Console(highlight=False)
    with opened_year(console) as stage:
        stage.stay_open(console)


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, _BATCH_ROWS)):
        yield batch


def _spooled(rows: Iterable[Row]) -> Sequence[SpooledRow]:
    """Return rows as a spool does; the embedded store ignores `store_ns`."""
    return [
        SpooledRow(number, row.kind, row.event_id, row.to_json(), point_time_ns=0, attempts=0)
        for number, row in enumerate(rows)
    ]


if __name__ == "__main__":
    main()
