"""Reading what is posted to the webhook: the original system's body, to one usage event."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.capture.openwebui import short_text
from shared.capture.usage import Usage, parse_usage
from shared.core.event import UNASSIGNED, UsageEvent, new_event
from shared.core.ids import NO_KEY, digest, generation_time, is_generation_id, key_hash
from shared.errors import InvalidEvent

WEBHOOK_KEY_MAX = 512
# Times after this many are milliseconds: as seconds they would lie beyond the year 5000.
_MILLISECONDS_FROM = 10**11


@dataclass(frozen=True, kw_only=True)
class WebhookOwner:
    """Whom a webhook delivery belongs to: organizations by the hash of their OpenRouter key."""

    organizations: Mapping[str, str]
    default: str = UNASSIGNED

    def organization_of(self, api_key_hash: str) -> str:
        """Return whom a key bills; an unknown key belongs to the default."""
        return self.organizations.get(api_key_hash, self.default)


def original_event(body: Mapping[str, Any], owner: WebhookOwner, now: datetime) -> UsageEvent:
    """Build the event of a body of the original webhook.

    The key becomes a hash and an organization. The body knows only a sum of tokens: their split
    stays unknown, 0 and 0. Without a request_id the body itself is the identity, so that one sent
    twice is one event. Raises InvalidEvent.
    """
    hashed = _webhook_key_hash(body.get("api_key"))
    request_id = _original_request_id(body, hashed)
    usage = parse_usage({"total_tokens": body.get("tokens_used"), "cost": body.get("cost")})
    return new_event(
        request_id=request_id,
        grain="generation",
        occurred_at=generation_time(request_id) or webhook_time(body.get("timestamp")) or now,
        client_org_id=owner.organization_of(hashed),
        external_user=webhook_user(body.get("external_user"), body.get("user_id")),
        requested_model=short_text(body.get("model")),
        model=webhook_model(body.get("model")),
        source="webhook",
        api_key_hash=hashed,
        **webhook_amounts(usage),
    )


def webhook_amounts(usage: Usage) -> dict[str, Any]:
    """Return the amounts of an event; it is pending without a usable cost."""
    known = usage.cost_usd is not None
    return usage.event_fields() | {"cost_source": "webhook" if known else "none"}


def webhook_user(*candidates: object) -> str:
    """Return the first user that is named, else `unknown`: another observation may have it."""
    return next((user for user in map(short_text, candidates) if user.strip()), "unknown")


def webhook_model(value: object) -> str:
    """Return the model. Raises InvalidEvent when there is none: nothing could be booked to it."""
    model = short_text(value)
    if not model.strip():
        raise InvalidEvent("missing", "model", type(value).__name__)
    return model


def webhook_time(value: object) -> datetime | None:
    """Read a time: ISO 8601, or a number of seconds or milliseconds since 1970.

    A time without zone is UTC; so is the original system's `+00:00Z`. None when it is no time.
    """
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / 1000 if abs(value) >= _MILLISECONDS_FROM else value
            return datetime.fromtimestamp(seconds, UTC)
        text = short_text(value).strip()
        found = datetime.fromisoformat(text[:-1] if text.endswith("00Z") and "+" in text else text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _webhook_key_hash(value: object) -> str:
    if not isinstance(value, str) or not value:
        return NO_KEY
    if len(value) > WEBHOOK_KEY_MAX:
        raise InvalidEvent("too_long", "api_key", "...")
    return key_hash(value)


def _original_request_id(body: Mapping[str, Any], hashed: str) -> str:
    """Name the bill: OpenRouter's id as it is, any other under our own prefix.

    So that no poster can name a turn or a manual record of ours.
    """
    given = body.get("request_id")
    if is_generation_id(given):
        return str(given)
    if given not in (None, ""):
        if not isinstance(given, str) or len(given) > 128:
            raise InvalidEvent("unusable_id", "request_id", given)
        return f"webhook:{given}"
    if webhook_time(body.get("timestamp")) is None:
        raise InvalidEvent("missing", "timestamp", "without request_id it tells two bodies apart")
    named = ("external_user", "user_id", "model", "tokens_used", "cost", "timestamp")
    return f"webhook:{digest([hashed, *(str(body.get(name)) for name in named)])}"
