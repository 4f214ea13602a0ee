"""Pages: hosts and spools, jobs, counters, and dead letters."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from fastapi import APIRouter, Request
from fastapi.responses import Response

from scheduler.api.deps import SidecarDep
from scheduler.dashboard.forms import Confirmed, Text, confirm, redirect
from scheduler.dashboard.pages import render
from scheduler.monitoring.health import Health, HealthReport
from scheduler.process.drain import spool_files
from scheduler.process.running import RunningSidecar
from scheduler.process.sidecar import spool_settings
from scheduler.services.errors import NotKnown
from scheduler.services.status import service_status
from shared.spool.queries import DeadLetter
from shared.spool.sqlite_spool import SqliteSpool

router = APIRouter()

_LETTERS_SHOWN = 200
_PAGE = "/ui/dead-letters"


@dataclass(frozen=True)
class DeadLetterList:
    """The oldest dead letters and quarantined events of a spool, and the count of all."""

    spool: str
    letters: list[DeadLetter]
    count: int


@router.get("/hosts")
def hosts(request: Request, sidecar: SidecarDep) -> Response:
    health: Health = request.app.state.health
    report = health.report()
    values = {
        "report": report,
        "status": service_status(sidecar),
        "counters": {
            origin: sorted(found.items())
            for origin, found in counters_by_origin(report, sidecar).items()
        },
        "jobs": sidecar.schedule(),
    }
    return render(request, "hosts.html", values)


@router.get("/dead-letters")
def dead_letters(request: Request, sidecar: SidecarDep) -> Response:
    """Show dead letters with the server's message or the reason."""
    values = {"lists": list(_dead_letter_lists(sidecar))}
    return render(request, "dead_letters.html", values)


@router.post("/dead-letters/replay")
def replay(
    request: Request, sidecar: SidecarDep, spool: Text = "", confirmed: Confirmed = False
) -> Response:
    """Queue the dead letters and quarantined events of a spool again."""
    with closing(_opened(sidecar, spool)) as opened:
        status = opened.status()
        if confirmed:
            opened.replay()
            return redirect(_PAGE)
    sentences = [
        f"{status.dead_letters} dead letters and {status.quarantined} quarantined events of "
        f"{spool} will be queued again, without asking again.",
        "A row that the store has by now stays one row. What the store refuses comes back here.",
    ]
    return confirm(request, "Replay", sentences, {"spool": spool}, _PAGE)


def counters_by_origin(
    report: HealthReport, sidecar: RunningSidecar
) -> dict[str, Mapping[str, int]]:
    """Return the counters of the spools here, ever, and of hosts elsewhere since their start."""
    here = {host.host_id for host in sidecar.hosts_here()}
    counters: dict[str, Mapping[str, int]] = {
        spool.name: spool.status.counters for spool in report.spools
    }
    return counters | {
        host.host_id: host.counters for host in report.hosts if host.host_id not in here
    }


def _dead_letter_lists(sidecar: RunningSidecar) -> Iterator[DeadLetterList]:
    for path in spool_files(sidecar.settings.usage_spool_dir):
        with closing(_opened(sidecar, path.name)) as spool:
            status = spool.status()
            count = status.dead_letters + status.quarantined
            if count:
                letters = list(islice(spool.dead_letters(), _LETTERS_SHOWN))
                yield DeadLetterList(path.name, letters, count)


def _opened(sidecar: RunningSidecar, name: str) -> SqliteSpool:
    """Open a spool of the shared folder as the operator's commands do. Raises NotKnown."""
    for path in spool_files(sidecar.settings.usage_spool_dir):
        if path.name == name:
            return SqliteSpool(path, settings=spool_settings(sidecar.settings), clock=sidecar.clock)
    raise NotKnown("spool", name)
