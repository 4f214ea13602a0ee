"""The operator's commands on organizations: add, rate, assign, list."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from scheduler.cli.console import OUT, fail
from scheduler.process.sidecar import open_database
from scheduler.services.assignments import NewAssignment
from scheduler.services.assignments import assign as assign_users
from scheduler.services.inputs import read_input
from scheduler.services.organizations import NewOrganization, NewRate, add_organization, set_rate
from shared.core.money import rate_ppm
from shared.core.time import EPOCH
from shared.errors import UnusableCost, UsageError
from shared.projection.organization import ALWAYS
from shared.settings import Settings
from shared.summary_db.database import SummaryDatabase

app = typer.Typer(no_args_is_help=True, help="Whom usage is billed to, at which rate, since when.")

OrganizationArgument = Annotated[str, typer.Argument(help="id of the organization (client_org_id)")]


@app.command()
def add(
    organization_id: OrganizationArgument,
    name: Annotated[str, typer.Option(help="name on statements")] = "",
    time_zone: Annotated[str, typer.Option(help="zone of its days, such as Europe/Warsaw")] = "",
    markup: Annotated[str, typer.Option(help="multiplier such as 1.3")] = "",
) -> None:
    """Add an organization; what is left out comes from the settings."""
    with _opened() as (settings, summaries):
        new = read_input(
            NewOrganization,
            organization_id=organization_id,
            name=name,
            time_zone=time_zone,
            markup=_checked(markup) if markup else None,
        )
        add_organization(summaries, settings, new)
    OUT.print(f"added {organization_id}")


@app.command()
def rate(
    organization_id: OrganizationArgument,
    markup: Annotated[str, typer.Argument(help="multiplier such as 1.3")],
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="first local day; without it, all days"),
    ] = None,
) -> None:
    """Set the markup from a day on; closed days that it touches are corrected and logged."""
    day = since.date() if since else ALWAYS
    with _opened() as (_, summaries):
        new = read_input(NewRate, markup=_checked(markup), valid_from=day)
        set_rate(summaries, organization_id, new)
    OUT.print(f"{organization_id}: {markup} from {day}")


@app.command()
def assign(
    user: Annotated[str, typer.Argument(help="Open WebUI's id of the user")],
    organization_id: OrganizationArgument,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"], help="instant in UTC; without it, from ever"
        ),
    ] = None,
) -> None:
    """Put a user into an organization from an instant on, for the past as well."""
    instant = since.replace(tzinfo=UTC) if since else EPOCH
    with _opened() as (_, summaries):
        new = read_input(
            NewAssignment,
            external_user=user,
            organization_id=organization_id,
            valid_from=instant,
        )
        assign_users(summaries, [new])
    OUT.print(f"{user} belongs to {organization_id} from {instant:%Y-%m-%d %H:%M:%S} UTC")


@app.command(name="list")
def list_organizations() -> None:
    """Print all organizations with their rates and people."""
    with _opened() as (_, summaries):
        directory = summaries.organizations.directory()
        names = summaries.users.names()
    table = Table("organization", "name", "zone", "currency", "markup", "people")
    for organization in directory.organizations.values():
        own_id = organization.organization_id
        rates = [rate for rate in directory.rates if rate.organization_id == own_id]
        people = {
            move.external_user for move in directory.assignments if move.organization_id == own_id
        }
        table.add_row(
            own_id,
            organization.name,
            organization.time_zone,
            organization.currency,
            ", ".join(f"{each.rate_ppm / 1_000_000:g} from {each.valid_from}" for each in rates),
            ", ".join(sorted(names.get(user, user) for user in people)),
        )
    OUT.print(table)


def _checked(markup: str) -> str:
    try:
        rate_ppm(markup)
    except UnusableCost as error:
        fail(f"markup {markup!r}: {error.reason}")
    return markup


@contextmanager
def _opened() -> Iterator[tuple[Settings, SummaryDatabase]]:
    try:
        settings = Settings.load()
        with closing(open_database(settings)) as summaries:
            yield settings, summaries
    except UsageError as error:
        fail(str(error))
