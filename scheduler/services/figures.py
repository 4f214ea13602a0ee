"""Figures as the API and files write them: exact amounts as text, users by their names."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, Field, PlainSerializer

from shared.core.money import format_usd, from_pico
from shared.projection.summary import Amounts
from shared.summary_db.port import UsageLine

Pico = Annotated[
    int,
    PlainSerializer(lambda pico: format_usd(from_pico(pico)), return_type=str),
    Field(description="US dollars, exact", examples=["0.00002025"]),
]


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
        return cls(**{name: getattr(amounts, _ours(name)) for name in cls.model_fields})


class Figure(BaseModel):
    """A figure: what it was grouped by, the name of the user if it is one, and its amounts."""

    group: dict[str, str]
    user_name: str | None = None
    amounts: AmountsBody


def figure(line: UsageLine, names: Mapping[str, str]) -> Figure:
    return Figure(
        group=dict(line.group),
        user_name=names.get(line.group.get("external_user", "")),
        amounts=AmountsBody.of(line.amounts),
    )


def _ours(name: str) -> str:
    return name.removesuffix("_usd") + "_pico_usd" if name.endswith("_usd") else name
