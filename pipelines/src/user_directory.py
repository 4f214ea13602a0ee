"""Names of users: queued once per process and change, kept apart from the events."""

from collections import OrderedDict
from datetime import datetime

from shared.capture.openwebui import host_user_id, json_object, short_text
from shared.core.rows import UserRow

_USERS_MAX = 10_000
_NAME_MAX = 320


class UserDirectory:
    """Remembers the names it returned, so that one goes to the spool once and not per answer."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, tuple[str | None, str | None]] = OrderedDict()

    def row(self, user: object, now: datetime) -> UserRow | None:
        """Return the row of a user who is new or has changed name or address."""
        user_id = host_user_id(user)
        name = short_text(json_object(user).get("name"), _NAME_MAX)
        email = short_text(json_object(user).get("email"), _NAME_MAX)
        if not user_id or not (name or email):
            return None
        row = UserRow(user_id=user_id, occurred_at=now, name=name, email=email)
        # Not compared by event_id, which changes every day.
        names = (row.name, row.email)
        if self._names.get(user_id) == names:
            return None
        self._names[user_id] = names
        self._names.move_to_end(user_id)
        while len(self._names) > _USERS_MAX:
            self._names.popitem(last=False)
        return row
