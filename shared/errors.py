"""Every error of the usage ledger: the class is the decision, the text is for a person.

UsageError
  ConfigError             a setting is wrong            -> sidecar: refuse to start
  InvalidEvent            input cannot become an event  -> refuse, count by reason
    UnusableCost          the amount is no money        -> book as pending, count
  SpoolError              the local disk has trouble    -> count, log
    SpoolFull             the size limit is reached     -> refuse, count
    SpoolTooNew           written by a later version    -> refuse with a sentence
  DeliveryError           a batch was not taken
    Unavailable           network, timeout, 408/429/5xx -> keep, back off
      StoreFault          a bare 500                    -> the same; bisect if others pass
    Misconfigured         401/403/404 ...               -> keep, probe slowly, tell the admin
    BatchRefused          400/422                       -> bisect; a single line -> dead letter
    TooLarge              413                           -> halve
  CircuitOpen             not attempted                 -> keep
  ProjectionError         a day could not be projected  -> the old summary stays
    WouldShrink           fewer events than known       -> refuse until a person says why
  MigrationError          an import cannot go on        -> stop before anything changes, say why
    RollbackRefused       it cannot be undone exactly   -> leave everything as it is
"""


class UsageError(Exception):
    """Root of all errors of this project."""


class ConfigError(UsageError):
    """A setting has a value that cannot be used."""

    def __init__(self, name: str, value: object, problem: str) -> None:
        self.name = name
        super().__init__(f"{name}: {problem} (got {str(value)[:80]!r})")


class InvalidEvent(UsageError):
    """Input that cannot become an event.

    `reason` is one word for counters, `field` and `value` name the culprit. The value is cut to 80
    characters; fields that may hold text of a chat are never passed as value.
    """

    def __init__(self, reason: str, field: str, value: object) -> None:
        self.reason = reason
        self.field = field
        super().__init__(f"{field}: {reason} (got {str(value)[:80]!r})")


class UnusableCost(InvalidEvent):
    """An amount that is no money: null, negative, NaN, infinite or beyond 64 bits of pico-USD."""


class SpoolError(UsageError):
    """The durable queue on local disk cannot be read or written."""


class SpoolFull(SpoolError):
    """The spool has reached its size limit and refuses new rows."""


class SpoolTooNew(SpoolError):
    """The spool file was written by a later version whose schema this one does not know."""


class DeliveryError(UsageError):
    """A batch was not taken by the event store."""


class Unavailable(DeliveryError):
    """The store did not answer or asked to come back later (timeout, 408, 425, 429, 5xx)."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class StoreFault(Unavailable):
    """The store failed inside (500): it may be ill, or it may be this batch that makes it fail."""


class Misconfigured(DeliveryError):
    """The store answers, but not to us as we are set up (401, 403, 404, a proxy's page ...)."""


class BatchRefused(DeliveryError):
    """The store refused the content of a batch (400, 422); some of its lines may be stored."""


class TooLarge(DeliveryError):
    """The batch is larger than the store or a proxy accepts (413)."""


class CircuitOpen(UsageError):
    """The breaker is open: nothing was attempted."""


class ProjectionError(UsageError):
    """A day could not be projected; its summaries stay as they were."""


class WouldShrink(ProjectionError):
    """The event store shows fewer events than it did before: expired, emptied or the wrong one."""


class MigrationError(UsageError):
    """An import, a backup or a verification cannot go on; what was done so far stays whole."""


class RollbackRefused(MigrationError):
    """An import cannot be taken out exactly; nothing was changed."""
