"""Pages over a year of summaries: how long each takes, the first time and then, and how large."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import httpx
from pydantic import SecretStr
from sqlalchemy import create_engine, insert

from benchmarks.report import Table, percentile
from scheduler.api.app import create_app
from scheduler.api.server import ApiServer
from scheduler.process.running import RunningSidecar
from shared.core.amounts import AMOUNTS
from shared.core.days import ZoneDay
from shared.projection.organization import Organization, OrganizationDefaults
from shared.settings import Settings
from shared.summary_db.database import open_summaries
from shared.summary_db.schema import daily_usage

_TODAY = date(2026, 11, 24)
_HERE = ZoneDay(_TODAY, "Europe/Warsaw")
_DAYS = 365
_TOKEN = "of-the-benchmark"  # noqa: S105 - opens nothing but this run
_ROUNDS = 20
_ORGANIZATIONS, _USERS = 20, 600
_PAGES = (
    "/",
    "/ui/usage",
    "/ui/usage?by=external_user",
    "/ui/usage?organization_id=org-03&by=model",
    "/ui/usage?start=2026-01-01&end=2026-11-24&by=month",
    "/ui/statement?organization_id=org-03&month=2026-10",
    "/ui/assignments",
    "/ui/hosts",
    "/ui/runs",
)


@dataclass(frozen=True)
class _Noon:
    """A clock that always shows noon of the last day."""

    def now(self) -> datetime:
        return datetime(2026, 11, 24, 12, tzinfo=UTC)


def time_pages(rows: int) -> Table:
    with tempfile.TemporaryDirectory(prefix="bench-pages-") as folder:
        _fill(Path(folder) / "summaries.sqlite3", rows // _DAYS)
        with _visitor(Path(folder)) as (visitor, sidecar):
            began = time.perf_counter()
            sidecar.run_job("pages")  # as the schedule does at the start
            warmed = time.perf_counter() - began
            lines = [_timed(visitor, sidecar, page) for page in _PAGES]
            first_visit = _first_visit(visitor)
    return Table(
        title=f"Pages over {rows:,} summary rows",
        note="Target: p95 below 300 ms. `first` is what nobody has asked for since the start of "
        f"the sidecar, which adds up in the background what pages ask for most ({warmed:.1f} s "
        "here); `new` is asked each time after another run of today. A first visit takes "
        f" {first_visit / 1000:.1f} kB, compressed, without the charts' script "
        "(target: 100 kB).",
        columns=["page", "first ms", "p50 ms", "p95 ms", "new p95 ms", "kB sent"],
        rows=lines,
    )


def _fill(path: Path, rows_per_day: int) -> None:
    url = f"sqlite:///{path}"
    summaries = open_summaries(url, OrganizationDefaults())
    for number in range(_ORGANIZATIONS):
        client = Organization(
            organization_id=f"org-{number:02}", name=f"Client {number}", time_zone="Europe/Warsaw"
        )
        summaries.organizations.add(client)
    summaries.close()
    engine = create_engine(url)
    random = Random(20261124)
    with engine.begin() as connection:
        for back in range(_DAYS):
            rows = list(_day(random, _TODAY - timedelta(days=back), rows_per_day))
            connection.execute(insert(daily_usage), rows)
    engine.dispose()


def _day(random: Random, day: date, count: int) -> Iterator[Mapping[str, object]]:
    keys = random.sample(range(_USERS * 20 * 3), count)
    for key in keys:
        user, model, task = key // 60, key // 3 % 20, key % 3
        cost = random.randrange(10**6, 10**12)
        events = random.randrange(1, 40)
        amounts = dict.fromkeys(AMOUNTS, 0)
        amounts |= {"events": events, "total_tokens": events * 1200}
        amounts |= {"raw_pico_usd": cost, "billed_pico_usd": cost * 13 // 10}
        yield {
            "organization_id": f"org-{user % _ORGANIZATIONS:02}",
            "local_date": day,
            "external_user": f"user-{user:04}",
            "model": f"author-{model % 5}/model-{model}",
            "task": ("chat", "title_generation", "tags_generation")[task],
            "source": "function",
            "written_at_seconds": 0,
            **amounts,
        }


@contextmanager
def _visitor(folder: Path) -> Iterator[tuple[httpx.Client, RunningSidecar]]:
    settings = Settings(
        usage_admin_token=SecretStr(_TOKEN),
        usage_spool_dir=folder / "spool",
        usage_store_path=folder / "events.sqlite3",
        usage_database_url=SecretStr(f"sqlite:///{folder / 'summaries.sqlite3'}"),
    )
    with RunningSidecar(settings, _Noon()) as sidecar:
        sidecar.try_lead()
        server = ApiServer(create_app(sidecar), "127.0.0.1", 0)
        server.start()
        url = f"http://127.0.0.1:{server.port}"
        with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
            page = client.get("/ui/sign-in").text
            csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
            client.post("/ui/sign-in", data={"csrf": csrf, "token": _TOKEN}, follow_redirects=False)
            yield client, sidecar
        server.stop()


def _timed(visitor: httpx.Client, sidecar: RunningSidecar, page: str) -> list[object]:
    first, warm, new = _milliseconds(visitor, page), [], []
    for number in range(_ROUNDS):
        warm.append(_milliseconds(visitor, page))
        # Whatever run of today is on record, its figures are asked for again.
        sidecar.summaries.days.record_failure(_HERE, sidecar.clock.now(), f"{page} {number}")
        new.append(_milliseconds(visitor, page))
    sent = int(visitor.get(page).headers["content-length"]) / 1000
    numbers = (first, percentile(warm, 50), percentile(warm, 95), percentile(new, 95))
    return [page, *(f"{number:.0f}" for number in numbers), f"{sent:.1f}"]


def _milliseconds(visitor: httpx.Client, page: str) -> float:
    began = time.perf_counter()
    visitor.get(page).raise_for_status()
    return 1000 * (time.perf_counter() - began)


def _first_visit(visitor: httpx.Client) -> int:
    """Return the size of what a browser fetches for the overview, without the charts' script."""
    page = visitor.get("/")
    parts = [each.partition('"')[0] for each in page.text.split('"/ui/static/')[1:]]
    names = [each for each in parts if "chart" not in each]
    answers = [page, *(visitor.get(f"/ui/static/{name}") for name in names)]
    return sum(int(answer.headers["content-length"]) for answer in answers)
