"""Bill against books, path by path: what the demo was charged and what the ledger booked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from demo.plays.traffic import Charge
from demo.plays.world import PATH_WEIGHTS, TASK_PATH
from shared.core.event import UsageEvent
from shared.core.rows import UnmeteredRow


@dataclass
class PathLine:
    """A line of the comparison: US dollars and counts of one path."""

    path: str
    generations: int = 0
    charged: Decimal = Decimal(0)
    shown: Decimal = Decimal(0)
    booked: Decimal = Decimal(0)
    estimated: Decimal = Decimal(0)
    pending: int = 0
    unmetered: int = 0
    hidden: int = 0

    @property
    def difference(self) -> Decimal:
        """What the hooks showed and the books do not hold, or the other way round."""
        return self.shown - self.booked - self.estimated

    @property
    def agrees(self) -> bool:
        """Whether the books hold all that could be seen, and nothing else."""
        return not self.difference and self.hidden == self.pending + self.unmetered


def compare(
    charges: Sequence[Charge], bills: Iterable[UsageEvent], unmetered: Iterable[UnmeteredRow]
) -> list[PathLine]:
    """Compare charges with booked events; what is booked for nobody's charge is a line too."""
    lines = {path: PathLine(path) for path in (*PATH_WEIGHTS, TASK_PATH)}
    paths: dict[str | None, str] = {}
    for charge in charges:
        line = lines[charge.path]
        paths[charge.message_id] = charge.path
        line.generations += charge.generations
        line.charged += charge.cost + charge.upstream
        if charge.shown in ("cost", "estimate"):
            line.shown += charge.cost + charge.upstream
        elif charge.shown in ("pending", "unmetered"):
            line.hidden += 1
    for event in bills:
        path = paths.get(event.message_id, "booked, but never charged")
        line = lines.setdefault(path, PathLine(path))
        line.booked += (event.cost_usd or 0) + (event.upstream_cost_usd or 0)
        line.estimated += event.estimated_cost_usd or 0
        line.pending += event.cost_source == "none"
    for _ in unmetered:
        lines[TASK_PATH].unmetered += 1
    return list(lines.values())
