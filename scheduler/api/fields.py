"""Fields of requests: names in addresses, where a page begins, one way to page."""

from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Query
from pydantic import BeforeValidator, StringConstraints

from scheduler.api.path_encoding import with_slashes
from scheduler.services.inputs import LabelText
from shared.summary_db.reports import Page

_LINES_MAX = 1000

Line = TypeVar("Line")
# A name as a part of an address.
PathLabel = Annotated[LabelText, BeforeValidator(with_slashes)]
AfterCursor = Annotated[
    str | None,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\.[0-9]{1,9}$"),
    Query(description="`next` of the page before"),
]


@dataclass(frozen=True)
class Paging:
    """Which piece of a list is wanted."""

    limit: Annotated[int, Query(ge=1, le=_LINES_MAX, description="lines at most")] = 100
    offset: Annotated[int, Query(ge=0, le=10**9, description="lines to leave out")] = 0

    def page(self) -> Page:
        """Ask for one line more than wanted: it tells whether there is a next page."""
        return Page(limit=self.limit + 1, offset=self.offset)

    def cut(self, lines: list[Line]) -> tuple[list[Line], int | None]:
        """Return the wanted lines and the offset of the next page, None after the last."""
        has_more = len(lines) > self.limit
        return lines[: self.limit], self.offset + self.limit if has_more else None
