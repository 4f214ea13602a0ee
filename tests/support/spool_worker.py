"""A process that puts events into a spool and prints each id once it is safe."""

import sys
from collections import deque
from concurrent.futures import Future
from pathlib import Path

from shared.spool.port import PutOutcome
from shared.spool.sqlite_spool import SqliteSpool
from tests.support.builders import generation_id, pending, settled
from tests.support.spools import SetClock

IN_FLIGHT = 20


def main(path: str, first: str, count: str) -> None:
    spool = SqliteSpool(Path(path), clock=SetClock())
    waiting: deque[tuple[str, Future[list[PutOutcome]]]] = deque()
    for number in range(int(first), int(first) + int(count)):
        event = settled(request_id=generation_id(number))
        spool.track(pending(request_id=generation_id(number)))
        waiting.append((event.event_id, spool.put([event])))
        if len(waiting) == IN_FLIGHT:
            report(*waiting.popleft())
    while waiting:
        report(*waiting.popleft())
    spool.close()


def report(event_id: str, future: Future[list[PutOutcome]]) -> None:
    (outcome,) = future.result(60)
    # One write per line: a killed process leaves whole lines and at most one torn one.
    sys.stdout.write(f"{event_id} {outcome}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
