"""Input values of the services, as scripts and forms send them: names, days, multipliers."""

import re
from datetime import date, datetime
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    ValidationError,
)

from scheduler.services.errors import Refused, Unusable
from shared.core.ids import LABEL_MAX_BYTES
from shared.projection.organization import ALWAYS

# Nothing was billed before, and stores that count nanoseconds end in 2262.
LAST_DAY = date(2199, 12, 31)
_DAYS_MAX = 3700
# What every store can carry as a label: printable, no backslash, no space at either end.
_LABEL = (
    r"^[^\s\x00-\x1f\x7f-\x9f\\]"
    r"([^\x00-\x1f\x7f-\x9f\u2028\u2029\\]*[^\s\x00-\x1f\x7f-\x9f\\])?$"
)


def _only_text(value: object) -> object:
    """Keep a number from being read as a day or an instant since 1970."""
    if not isinstance(value, str | date):
        raise ValueError("must be a text")
    return value


def _in_range(day: date) -> date:
    if not ALWAYS <= day <= LAST_DAY:
        raise Refused("out_of_range", f"{day} lies outside of {ALWAYS} to {LAST_DAY}")
    return day


def _instant_in_range(instant: datetime) -> datetime:
    _in_range(instant.date())
    return instant


def _printable(name: object) -> object:
    """Give the reason in words where the pattern would refuse; other types are refused later."""
    if isinstance(name, str) and name and not re.fullmatch(_LABEL, name):
        raise ValueError(
            "must be printable: no tab, line break or backslash, no space at either end"
        )
    return name


def _label_fits(text: str) -> str:
    if len(text.encode()) > LABEL_MAX_BYTES:
        raise Refused("too_long", f"a name may have at most {LABEL_MAX_BYTES} bytes")
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


class Input(BaseModel):
    """What a service is asked to do; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AnyInput = TypeVar("AnyInput", bound=Input)


def read_input(kind: type[AnyInput], **fields: object) -> AnyInput:
    """Return an input from a form or a command; an empty field was left out.

    Raises Unusable that names the first field that cannot be used.
    """
    given = {name: value for name, value in fields.items() if value not in ("", None)}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "form"
        raise Unusable(f"{field.replace('_', ' ')}: {first['msg']}", field) from None


def check_span(start: date, end: date) -> None:
    """Refuse a span of days that ends before it starts or is longer than ten years."""
    if end < start:
        raise Refused("empty_span", f"end {end} lies before start {start}", "end")
    if (end - start).days > _DAYS_MAX:
        raise Refused("span_too_long", f"at most {_DAYS_MAX} days at once", "end")
