"""Fields of requests and answers: exact amounts as text, days as text, one way to page."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Literal, TypeVar

from fastapi import Query
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    StringConstraints,
)

from scheduler.api.errors import ApiError
from scheduler.api.path_encoding import with_slashes
from shared.core.ids import LABEL_MAX_BYTES
from shared.core.money import format_usd, from_pico
from shared.projection.organization import ALWAYS
from shared.projection.summary import Amounts
from shared.summary_db.port import Page

_LINES_MAX = 1000
# Nothing was billed before, and stores that count nanoseconds end in 2262.
_LAST_DAY = date(2199, 12, 31)
_DAYS_MAX = 3700
# What every store can carry as a label: printable, no backslash, no space at either end.
_LABEL = (
    r"^[^\s\x00-\x1f\x7f-\x9f\\]"
    r"([^\x00-\x1f\x7f-\x9f\u2028\u2029\\]*[^\s\x00-\x1f\x7f-\x9f\\])?$"
)

Line = TypeVar("Line")


def _only_text(value: object) -> object:
    """Keep a number from being read as a day or an instant since 1970."""
    if not isinstance(value, str | date):
        raise ValueError("must be a text")
    return value


def _in_range(day: date) -> date:
    if not ALWAYS <= day <= _LAST_DAY:
        raise ApiError(409, "out_of_range", f"{day} lies outside of {ALWAYS} to {_LAST_DAY}")
    return day


def _instant_in_range(instant: datetime) -> datetime:
    _in_range(instant.date())
    return instant


def _printable(name: object) -> object:
    """Say in words what the pattern says; whatever is no text is refused by its type."""
    if isinstance(name, str) and name and not re.fullmatch(_LABEL, name):
        raise ValueError(
            "must be printable: no tab, line break or backslash, no space at either end"
        )
    return name


def _label_fits(text: str) -> str:
    if len(text.encode()) > LABEL_MAX_BYTES:
        raise ApiError(409, "too_long", f"a name may have at most {LABEL_MAX_BYTES} bytes")
    return text


Day = Annotated[date, BeforeValidator(_only_text), AfterValidator(_in_range)]
Instant = Annotated[AwareDatetime, BeforeValidator(_only_text), AfterValidator(_instant_in_range)]
LabelText = Annotated[
    str,
    Strict(),
    StringConstraints(min_length=1, max_length=LABEL_MAX_BYTES, pattern=_LABEL),
    AfterValidator(_label_fits),
    BeforeValidator(_printable),
]
# A name as a part of an address.
PathLabel = Annotated[LabelText, BeforeValidator(with_slashes)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
# One that is not in the IANA database is refused where it is used.
ZoneName = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$"),
    Field(examples=["Europe/Warsaw"]),
]
Multiplier = Annotated[
    str,
    Strict(),
    StringConstraints(pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?$"),
    Field(examples=["1.3"]),
]
UsdText = Annotated[str, Field(description="US dollars, exact", examples=["0.00002025"])]
Pico = Annotated[
    int,
    PlainSerializer(lambda pico: format_usd(from_pico(pico)), return_type=str),
    Field(description="US dollars, exact", examples=["0.00002025"]),
]


class Body(BaseModel):
    """A body of a request: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AmountsBody(BaseModel):
    """All amounts of a figure: counts, tokens, and US dollars as exact texts."""

    events: int
    pending: int
    estimated: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    raw_usd: Pico
    upstream_usd: Pico
    estimated_usd: Pico
    billed_usd: Pico

    @classmethod
    def of(cls, amounts: Amounts) -> "AmountsBody":
        """Write amounts for an answer."""
        return cls(**{name: getattr(amounts, _ours(name)) for name in cls.model_fields})


def _ours(name: str) -> str:
    return name.removesuffix("_usd") + "_pico_usd" if name.endswith("_usd") else name


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


def check_span(start: date, end: date) -> None:
    """Refuse a span of days that ends before it starts or is longer than ten years."""
    if end < start:
        raise ApiError(409, "empty_span", f"end {end} lies before start {start}", "end")
    if (end - start).days > _DAYS_MAX:
        raise ApiError(409, "span_too_long", f"at most {_DAYS_MAX} days at once", "end")


ExportFormat = Literal["csv", "json"]
