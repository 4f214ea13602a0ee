"""Figures as the API and files write them: exact amounts as text, users by their names."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from shared.core.money import format_usd, from_pico
from shared.summary_db.reports import UsageLine

Pico = Annotated[
    int,
    PlainSerializer(lambda pico: format_usd(from_pico(pico)), return_type=str),
    Field(description="US dollars, exact", examples=["0.00002025"]),
]


class AmountsBody(BaseModel):
    """All amounts of a figure: counts, tokens, and US dollars as exact texts."""

    model_config = ConfigDict(from_attributes=True)

    events: int
    pending: int
    estimated: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    raw_usd: Annotated[Pico, Field(validation_alias="raw_pico_usd")]
    upstream_usd: Annotated[Pico, Field(validation_alias="upstream_pico_usd")]
    estimated_usd: Annotated[Pico, Field(validation_alias="estimated_pico_usd")]
    billed_usd: Annotated[Pico, Field(validation_alias="billed_pico_usd")]


class Figure(BaseModel):
    """A figure: what it was grouped by, the name of the user if it is one, and its amounts."""

    group: dict[str, str]
    user_name: str | None = None
    amounts: AmountsBody


def figure(line: UsageLine, names: Mapping[str, str]) -> Figure:
    return Figure(
        group=dict(line.group),
        user_name=names.get(line.group.get("external_user", "")),
        amounts=AmountsBody.model_validate(line.amounts),
    )
