"""Routes: every change of a day that was final, and what a person should know of single bills."""

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from scheduler.api.deps import SidecarDep
from scheduler.api.fields import Paging
from scheduler.api.routes.summaries import Wanted
from scheduler.services.figures import AmountsBody
from shared.core.amounts import Amounts
from shared.projection.summary import DayFinding
from shared.summary_db.runs import RecordedCorrection

router = APIRouter(tags=["audit"])


class CorrectionBody(BaseModel):
    """A change of a final row: `old` null did not exist, `new` null is gone."""

    recorded_at: datetime
    run_id: int
    organization_id: str
    local_date: date
    external_user: str
    model: str
    task: str
    source: str
    why: str
    old: AmountsBody | None
    new: AmountsBody | None


class CorrectionsPage(BaseModel):
    """A page of corrections, the newest first."""

    corrections: list[CorrectionBody]
    next_offset: int | None


class FindingsPage(BaseModel):
    """A page of findings, the newest day first."""

    findings: list[DayFinding]
    next_offset: int | None


@router.get("/corrections")
def corrections(sidecar: SidecarDep, paging: Annotated[Paging, Depends()]) -> CorrectionsPage:
    """What was changed in days that were final, with old and new."""
    # The log is read from its newest end; what lies before the page is read and left out.
    found = sidecar.summaries.runs.corrections(paging.offset + paging.limit + 1)[paging.offset :]
    lines, next_offset = paging.cut(found)
    return CorrectionsPage(corrections=[_body(line) for line in lines], next_offset=next_offset)


@router.get("/findings")
def findings(
    sidecar: SidecarDep, wanted: Annotated[Wanted, Depends()], paging: Annotated[Paging, Depends()]
) -> FindingsPage:
    """Conflicts and whatever else a person should look at."""
    found = sidecar.summaries.reports.findings(wanted.filter(), paging.page())
    lines, next_offset = paging.cut(found)
    return FindingsPage(findings=lines, next_offset=next_offset)


def _body(recorded: RecordedCorrection) -> CorrectionBody:
    correction = recorded.correction
    return CorrectionBody(
        recorded_at=recorded.recorded_at,
        run_id=recorded.run_id,
        **vars(correction.key),
        why=correction.why,
        old=_amounts(correction.old),
        new=_amounts(correction.new),
    )


def _amounts(amounts: Amounts | None) -> AmountsBody | None:
    return None if amounts is None else AmountsBody.model_validate(amounts)
