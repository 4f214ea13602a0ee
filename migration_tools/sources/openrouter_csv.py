"""OpenRouter's activity export: one line of CSV per generation, with what it was charged."""

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from migration_tools.source import DaySpan, PerRequestSource, Remark
from shared.core.days import local_day
from shared.core.event import UNASSIGNED, UsageEvent, new_event
from shared.core.ids import canonical_json, clean_label, generation_time, is_generation_id
from shared.core.money import parse_usd
from shared.errors import InvalidEvent, MigrationError, UnusableCost

# The header as it was seen on 2026-09-05; what is not needed may be missing.
_NEEDED = ("generation_id", "created_at", "cost_total", "tokens_prompt", "tokens_completion",
           "model_permaslug")  # fmt: skip
_PARTS = ("cost_web_search", "cost_cache", "cost_file_processing")
_STANDARD = ("", "standard", "default")


class ActivityCsv(PerRequestSource):
    """One export as a source. Its costs also replace those of pending events in the ledger."""

    kind = "csv"

    def __init__(self, path: Path, zone: str) -> None:
        super().__init__(zone)
        self._path = path
        try:
            with path.open("rb") as file:
                self.identity = hashlib.file_digest(file, "sha256").hexdigest()[:8]
        except OSError as error:
            raise MigrationError(f"{path} cannot be read: {error.strerror}") from error
        with self._rows() as rows:
            missing = sorted(set(_NEEDED).difference(rows.fieldnames or ()))
        if missing:
            raise MigrationError(
                f"{path} is no export of generations: it has no column {', '.join(missing)}"
            )

    def events(
        self, span: DaySpan, label: str, remark: Callable[[Remark], None]
    ) -> Iterator[UsageEvent]:
        """Return the generations of some days in the order of the file."""
        with self._rows() as rows:
            for row in rows:
                try:
                    event = _event(row, label, remark)
                except InvalidEvent as error:
                    remark(_remark(f"line {rows.line_num}: {error}", left_out=True))
                    continue
                if local_day(event.occurred_at, self._zone) in span:
                    yield event

    @contextmanager
    def _rows(self) -> "Iterator[csv.DictReader[str]]":
        """Open the file. Raises MigrationError for one that is no CSV in UTF-8."""
        try:
            with self._path.open(encoding="utf-8-sig", newline="") as file:
                yield csv.DictReader(file)
        except (UnicodeDecodeError, csv.Error) as error:
            raise MigrationError(f"{self._path} is no CSV in UTF-8: {error}") from error


def _event(
    row: Mapping[str, str | None], label: str, remark: Callable[[Remark], None]
) -> UsageEvent:
    request_id = (row["generation_id"] or "").strip()
    if not is_generation_id(request_id):
        raise InvalidEvent("unusable_id", "generation_id", request_id)
    input_tokens = _count(row, "tokens_prompt")
    output_tokens = _count(row, "tokens_completion")
    cost = _cost(row, request_id, remark)
    upstream = _amount(row, "byok_usage_inference")
    model = clean_label(row["model_permaslug"], "unknown")
    variant = (row.get("variant") or "").strip()
    if variant not in _STANDARD and not model.endswith(f":{variant}"):
        model = f"{model}:{variant}"
    return new_event(
        request_id=request_id,
        grain="generation",
        occurred_at=generation_time(request_id) or _created_at(row),
        client_org_id=UNASSIGNED,
        external_user=clean_label(row.get("user"), "unknown"),
        requested_model=model,
        model=model,
        provider=row.get("provider_name"),
        task="unknown",
        source=label,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=input_tokens + output_tokens,
        cached_tokens=_count(row, "tokens_cached"),
        reasoning_tokens=_count(row, "tokens_reasoning"),
        cost_usd=cost,
        cost_source="none" if cost is None else "analytics",
        is_byok=bool(upstream),
        upstream_cost_usd=upstream or None,
        finish_reason=row.get("finish_reason_normalized"),
        latency_ms=_count(row, "generation_time_ms"),
        usage_extra=_extra(row),
    )


def _cost(
    row: Mapping[str, str | None], request_id: str, remark: Callable[[Remark], None]
) -> Decimal | None:
    try:
        return parse_usd(row["cost_total"])
    except UnusableCost as error:
        remark(_remark(f"{request_id}: cost {row['cost_total']!r} is {error.reason}; pending"))
        return None


def _amount(row: Mapping[str, str | None], name: str) -> Decimal:
    """Return an amount, 0 where it is missing or unusable."""
    try:
        return parse_usd(row.get(name) or 0)
    except UnusableCost:
        return Decimal(0)


def _count(row: Mapping[str, str | None], name: str) -> int:
    text = (row.get(name) or "0").strip()
    try:
        count = Decimal(text)
    except ArithmeticError:
        raise InvalidEvent("not_a_count", name, text) from None
    if not count.is_finite() or count != int(count) or not 0 <= count <= 2**53:
        raise InvalidEvent("not_a_count", name, text)
    return int(count)


def _created_at(row: Mapping[str, str | None]) -> datetime:
    """Return the time of a generation whose id has none; without a zone it is UTC."""
    text = (row["created_at"] or "").strip().removesuffix(" UTC")
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidEvent("unusable_time", "created_at", text) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _extra(row: Mapping[str, str | None]) -> str:
    parts = {name: str(_amount(row, name).normalize()) for name in _PARTS if _amount(row, name)}
    return canonical_json(parts) if parts else ""


def _remark(detail: str, *, left_out: bool = False) -> Remark:
    return Remark(
        organization_id=UNASSIGNED,
        what="row" if left_out else "cost",
        detail=detail,
        left_out=left_out,
    )
