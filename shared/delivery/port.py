"""The seam to where rows are delivered."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shared.spool.port import SpooledRow


@dataclass(frozen=True)
class WriteResult:
    """How a batch ended, by position in it. A position in no list was not looked at and is kept."""

    accepted: list[int] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)


class EventSink(Protocol):
    """Where rows are delivered."""

    name: str

    def prepare(self, rows: Sequence[SpooledRow]) -> Sequence[SpooledRow]:
        """Return the same rows, with the work done that needs no store, for `write` to take.

        From any thread, also while another batch is written.
        """

    def write(self, rows: Sequence[SpooledRow]) -> WriteResult:
        """Write a batch of any kinds; writing a row again changes nothing.

        Raises DeliveryError when the batch as a whole was not taken.
        """
