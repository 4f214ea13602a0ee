"""Refusals of the services; the API maps each class to a status, the pages to an error page."""

from shared.errors import UsageError


class Refused(UsageError):
    """It contradicts itself or what is known. `code` is for scripts, `field` names the culprit."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        self.code = code
        self.field = field
        super().__init__(message)


class Unusable(Refused):
    """A value has a form that cannot be used."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__("invalid_value", message, field)


class NotKnown(Refused):
    def __init__(self, what: str, name: object) -> None:
        super().__init__("not_found", f"{what} {str(name)[:80]!r} is not known")


class TooMuch(Refused):
    def __init__(self, message: str) -> None:
        super().__init__("too_large", message)
