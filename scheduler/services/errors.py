"""Refusals of the services; the API maps each class to a status, the pages to an error page."""

from shared.errors import UsageError


class Refused(UsageError):
    """It contradicts itself or what is known. `code` is for scripts, `field` names the culprit."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        self.code = code
        self.field = field
        super().__init__(message)


class NotKnown(Refused):
    """What was named does not exist."""

    def __init__(self, what: str, name: object) -> None:
        super().__init__("not_found", f"{what} {str(name)[:80]!r} is not known")


class TooMuch(Refused):
    """More was sent than is taken at once."""

    def __init__(self, message: str) -> None:
        super().__init__("too_large", message)
