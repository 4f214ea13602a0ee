"""Open WebUI's own database as a source: the usage that it keeps with every answer."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from migration_tools.source import DaySpan, PerRequestSource, Remark
from migration_tools.sources.open_webui.rows import OpenWebuiRows, StoredAnswer
from shared.capture.openwebui import has_openrouter_usage, message_time, openrouter_model
from shared.capture.usage import Usage, parse_usage
from shared.core.days import ONE_DAY, day_start, local_day
from shared.core.event import UsageEvent, new_event
from shared.core.ids import turn_request_id
from shared.core.money import format_usd
from shared.errors import InvalidEvent


class OpenWebui(PerRequestSource):
    """The answers that Open WebUI has saved as a source, each a turn.

    Background tasks, API calls and deleted chats are missing. Where its two records of an answer
    disagree, the answer was continued and neither is right: it becomes an estimate, with a remark.
    """

    kind = "open-webui"
    knows_answers = True

    def __init__(self, database_url: str, zone: str, client_org_id: str) -> None:
        super().__init__(zone)
        self._rows = OpenWebuiRows(database_url)
        self._client_org_id = client_org_id
        self.identity = self._rows.identity()
        self._base_models = self._rows.base_models()

    def events(
        self, span: DaySpan, label: str, remark: Callable[[Remark], None]
    ) -> Iterator[UsageEvent]:
        """Return the answers of some days that came from OpenRouter, chat by chat."""
        start = int(day_start(span.first, self._zone).timestamp())
        end = int(day_start(span.last + ONE_DAY, self._zone).timestamp())
        for answer in self._rows.answers(start, end):
            kept = answer.kept if answer.kept is not None else answer.shown
            if kept is None or not has_openrouter_usage(kept):
                continue
            try:
                yield self._event(answer, kept, label, remark)
            except InvalidEvent as error:
                detail = f"message {answer.message_id}: {error}"
                remark(self._remark(answer, "row", detail, left_out=True))

    def close(self) -> None:
        self._rows.close()

    def _event(
        self,
        answer: StoredAnswer,
        kept: Mapping[str, Any],
        label: str,
        remark: Callable[[Remark], None],
    ) -> UsageEvent:
        usage = parse_usage(kept, merged=True)
        shown = usage if answer.shown is None else parse_usage(answer.shown, merged=True)
        if (usage.cost_usd, usage.total_tokens) == (shown.cost_usd, shown.total_tokens):
            amounts = usage.event_fields()
            amounts["cost_source"] = "none" if usage.cost_usd is None else "outlet"
        else:
            amounts = _estimate(shown)
            detail = (
                f"message {answer.message_id} was continued: its records say "
                f"{_dollars(usage)} and {_dollars(shown)}; the last part is taken as an estimate"
            )
            remark(self._remark(answer, "continued", detail))
        if usage.cost_usd is None:
            detail = f"message {answer.message_id}: cost is {usage.cost_problem}; pending"
            remark(self._remark(answer, "cost", detail))
        return new_event(
            request_id=turn_request_id(answer.chat_id, answer.message_id),
            grain="turn",
            occurred_at=message_time({"timestamp": answer.timestamp}) or _time(answer),
            client_org_id=self._client_org_id,
            external_user=answer.user_id,
            requested_model=answer.model_id,
            model=self._model(answer.model_id),
            source=label,
            chat_id=answer.chat_id,
            message_id=answer.message_id,
            **amounts,
        )

    def _model(self, model_id: str) -> str:
        """Return OpenRouter's name of a model, or of a preset's base model where it is known."""
        base = self._base_models.get(model_id) or model_id
        return openrouter_model(base) if "/" in base else f"unresolved:{model_id}"

    def _remark(
        self, answer: StoredAnswer, what: str, detail: str, *, left_out: bool = False
    ) -> Remark:
        return Remark(
            organization_id=self._client_org_id,
            local_date=local_day(_time(answer), self._zone),
            what=what,
            detail=detail,
            left_out=left_out,
        )


def _estimate(usage: Usage) -> dict[str, Any]:
    fields = usage.event_fields()
    cost = fields.pop("cost_usd")
    if usage.is_byok:
        fields |= {"is_byok": False, "upstream_cost_usd": None}
    source = "none" if cost is None else "estimate"
    return fields | {"estimated_cost_usd": cost, "cost_source": source}


def _dollars(usage: Usage) -> str:
    return "no cost" if usage.cost_usd is None else f"{format_usd(usage.cost_usd)} USD"


def _time(answer: StoredAnswer) -> datetime:
    return datetime.fromtimestamp(answer.created_at, UTC)
