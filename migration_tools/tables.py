"""Tables: a plan and an outcome, for a person and for a script."""

from typing import Any

from migration_tools.importing.importer import Outcome
from migration_tools.importing.plan import Plan
from migration_tools.importing.totals import COLUMNS, Figures
from migration_tools.output import DIFFERENT, Answer, table, usd


def plan_answer(plan: Plan) -> Answer:
    """Show a plan: figures by organization and day, what stays behind, and the sum of it all."""
    totals = plan.totals
    rows = [
        (place.organization_id, place.local_date, *_shown(plan.figures[place]))
        for place in sorted(plan.figures)
    ]
    columns = ("organization", "day", "requests", "pending", "estimated", "tokens", "cost USD")
    answer = Answer(
        code=DIFFERENT if plan.remarks.is_incomplete else 0,
        data={
            "import_id": plan.import_id,
            "events": plan.events,
            "parts": plan.parts,
            "totals": figures_data(totals),
            "days": [
                {"organization_id": place.organization_id, "local_date": place.local_date}
                | figures_data(plan.figures[place])
                for place in sorted(plan.figures)
            ],
            "remarks": [
                vars(remark) | {"times": times} for remark, times in plan.remarks.listed.items()
            ],
            "remarks_unlisted": plan.remarks.unlisted,
        },
        shown=[table(*columns, rows=[*rows, ("all", "", *_shown(totals))])],
    )
    if plan.remarks.listed:
        answer.shown.append(_remarks(plan))
    return answer


def outcome_data(outcome: Outcome) -> dict[str, Any]:
    """Return how a migration ended."""
    return {
        "backup_id": outcome.backup_id,
        "was_resumed": outcome.was_resumed,
        "days_projected": len(outcome.report.outcomes) - len(outcome.report.failures),
    }


def figures_data(figures: Figures) -> dict[str, Any]:
    """Return figures by name, amounts also as dollars."""
    named = dict(zip(COLUMNS, figures.sums, strict=True))
    return named | {"cost_usd": usd(figures["cost_pico_usd"])}


def _shown(figures: Figures) -> tuple[object, ...]:
    names = ("events", "pending", "estimated", "total_tokens")
    return *(figures[name] for name in names), usd(figures["cost_pico_usd"])


def _remarks(plan: Plan) -> Any:
    rows = [
        (
            remark.organization_id,
            remark.local_date or "",
            "left out" if remark.left_out else "",
            remark.what,
            f"{remark.detail}{f' ({times} times)' if times > 1 else ''}",
        )
        for remark, times in plan.remarks.listed.items()
    ]
    columns = ("organization", "day", "", "what", "")
    return table(*columns, rows=rows, unlisted=plan.remarks.unlisted)
