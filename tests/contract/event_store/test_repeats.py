"""Which bills of a window were observed more than once, whoever told them, also while more come."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from shared.core.event import UsageEvent
from shared.event_store.influx.query import Series
from shared.event_store.influx.store import InfluxStore
from shared.event_store.port import EventStore, Window
from tests.support.builders import NOON
from tests.support.ledger import DAY, Ledger
from tests.support.services.influx import Version, influx_server
from tests.support.stores import HOUR, generation, write

# Mostly one source, as in life; then all kinds of others.
SOURCES = ["function"] * 4 + ["webhook", "manual", "import:1"]
_examples = count()


@st.composite
def observations(draw: st.DrawFn) -> UsageEvent:
    """Draw an observation of one of a few bills, at its own time or half an hour later."""
    number, is_known = draw(st.integers(0, 7)), draw(st.booleans())
    return generation(
        number,
        NOON + draw(st.sampled_from([0, 0, 0, 1])) * HOUR / 2,
        request_id=f"gen-{number}",
        source=draw(st.sampled_from(SOURCES)),
        total_tokens=draw(st.integers(0, 2)),
        cost_usd=1 if is_known else None,
        cost_source="response" if is_known else "none",
    )


@examples(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(observations(), max_size=12, unique_by=lambda event: event.event_id))
def test_every_bill_told_twice_is_found_whole_whoever_told_it(
    store: EventStore, drawn: list[UsageEvent]
) -> None:
    start = NOON + next(_examples) * 24 * HOUR
    prefix = f"{start.date()}-"
    told: dict[str, list[UsageEvent]] = defaultdict(list)
    for event in drawn:
        name, at = prefix + event.request_id, start + (event.occurred_at - NOON)
        told[name].append(event.model_copy(update={"request_id": name, "occurred_at": at}))
    write(store, *(event for events in told.values() for event in events))
    found = Counter(event.request_id for event in store.repeated(Window(start, start + HOUR)))
    assert {name for name, events in told.items() if len(events) > 1} <= found.keys()
    assert found == {name: len(told[name]) for name in found}


@pytest.mark.service
@pytest.mark.parametrize("version", ["1.8", "2.9"])
def test_a_bill_that_hides_behind_one_that_comes_meanwhile_is_put_right_by_the_next_run(
    version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = influx_server(version)
    settings = server.bucket()
    store, ledger = InfluxStore(settings), Ledger(tmp_path)
    ledger.store.close()
    ledger.store = store
    changed = [generation(1), generation(1, cost_usd=None, cost_source="none", total_tokens=0)]
    late, rare = (generation(n, source="webhook", cost_source="webhook") for n in (2, 3))
    write(store, *changed, generation(2), rare)
    ask = store._query.stream

    def interrupted(query: str, bound: Mapping[str, str]) -> Iterator[Series]:
        """Let a second event of another bill arrive once the bills told twice are counted: one."""
        if "source = $source" in query:
            write(store, late)
        return ask(query, bound)

    with monkeypatch.context() as patch:
        patch.setattr(store._query, "stream", interrupted)
        ledger.refresh()
    assert ledger.projection.verify(DAY, DAY) != []
    ledger.refresh()
    assert ledger.projection.verify(DAY, DAY) == []
    ledger.close()
    server.drop(settings.bucket)
