"""Names of users: said once per process, kept apart from the events."""

from collections import OrderedDict
from datetime import datetime

from shared.capture.openwebui import host_user_id, json_object, short_text
from shared.core.rows import UserRow

_USERS_MAX = 10_000
_NAME_MAX = 320


class UserDirectory:
    """Remembers whom it has named, so that a name goes to the spool once and not per answer."""

    def __init__(self) -> None:
        self._named: OrderedDict[str, tuple[str | None, str | None]] = OrderedDict()

    def row(self, user: object, now: datetime) -> UserRow | None:
        """Return the row of a user who is new or has another name or address now."""
        user_id = host_user_id(user)
        name = short_text(json_object(user).get("name"), _NAME_MAX)
        email = short_text(json_object(user).get("email"), _NAME_MAX)
        if not user_id or not (name or email):
            return None
        row = UserRow(user_id=user_id, occurred_at=now, name=name, email=email)
        # Not by event_id: that changes every day, and the name does not.
        names = (row.name, row.email)
        if self._named.get(user_id) == names:
            return None
        self._named[user_id] = names
        self._named.move_to_end(user_id)
        while len(self._named) > _USERS_MAX:
            self._named.popitem(last=False)
        return row
