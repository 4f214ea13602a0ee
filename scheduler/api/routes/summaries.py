"""Routes: figures by any side and any span of days, and what they leave unknown."""

from dataclasses import dataclass
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from scheduler.api.deps import SidecarDep
from scheduler.api.fields import Paging
from scheduler.reports.completeness import Completeness, read_completeness
from scheduler.services.figures import AmountsBody, Figure, figure
from scheduler.services.inputs import Day, LabelText, check_span
from shared.summary_db.reports import Grouping, UnmeteredLine, UsageFilter

router = APIRouter(tags=["figures"])

_GROUP_BY = Query(description="sides and spans to group by; without any, one line")


@dataclass(frozen=True)
class Wanted:
    """Which usage is meant: local days, both ends included, and any sides of it."""

    start: Annotated[Day, Query(description="first local day")]
    end: Annotated[Day, Query(description="last local day")]
    organization_id: Annotated[LabelText | None, Query()] = None
    external_user: Annotated[LabelText | None, Query()] = None
    model: Annotated[LabelText | None, Query()] = None
    provider: Annotated[LabelText | None, Query(description="part of the model before /")] = None
    task: Annotated[LabelText | None, Query()] = None
    source: Annotated[LabelText | None, Query()] = None

    def filter(self) -> UsageFilter:
        """Check the span and return what the books understand."""
        check_span(self.start, self.end)
        return UsageFilter(**vars(self))


class SummaryPage(BaseModel):
    """A page of figures in the order of their groups; `total` is of all pages."""

    start: date
    end: date
    lines: list[Figure]
    total: AmountsBody
    next_offset: int | None


class UnmeteredPage(BaseModel):
    """A page of counts of unmetered generations."""

    lines: list[UnmeteredLine]
    next_offset: int | None


class CompletenessBody(BaseModel):
    """How much of the usage is booked at its true cost."""

    booked: int
    settled: int
    pending: int
    estimated: int
    unmetered: int
    conflicts: int
    coverage_percent: str


@router.get("/summaries")
def summaries(
    sidecar: SidecarDep,
    wanted: Annotated[Wanted, Depends()],
    paging: Annotated[Paging, Depends()],
    group_by: Annotated[list[Grouping], _GROUP_BY] = ["organization_id"],  # noqa: B006 read only
) -> SummaryPage:
    """Add up the summaries."""
    found = wanted.filter()
    groups = list(dict.fromkeys(group_by))
    [total] = sidecar.summaries.reports.usage(found, ())
    lines, next_offset = paging.cut(sidecar.summaries.reports.usage(found, groups, paging.page()))
    names = sidecar.summaries.users.names() if "external_user" in groups else {}
    return SummaryPage(
        start=found.start,
        end=found.end,
        lines=[figure(line, names) for line in lines],
        total=AmountsBody.model_validate(total.amounts),
        next_offset=next_offset,
    )


@router.get("/unmetered")
def unmetered(
    sidecar: SidecarDep,
    wanted: Annotated[Wanted, Depends()],
    paging: Annotated[Paging, Depends()],
    group_by: Annotated[list[Grouping], _GROUP_BY] = ["day"],  # noqa: B006 read only
) -> UnmeteredPage:
    """Count generations that are known to have been made and whose cost no hook shows."""
    found = sidecar.summaries.reports.unmetered(
        wanted.filter(), list(dict.fromkeys(group_by)), paging.page()
    )
    lines, next_offset = paging.cut(found)
    return UnmeteredPage(lines=lines, next_offset=next_offset)


@router.get("/completeness")
def completeness(sidecar: SidecarDep, wanted: Annotated[Wanted, Depends()]) -> CompletenessBody:
    """How much of the usage of these days is booked at its true cost."""
    return completeness_body(read_completeness(sidecar.summaries.reports, wanted.filter()))


def completeness_body(found: Completeness) -> CompletenessBody:
    """Write completeness for an answer."""
    return CompletenessBody(**vars(found), coverage_percent=found.coverage_percent())
