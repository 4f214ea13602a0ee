"""Every way in which Open WebUI makes OpenRouter bill something, as a person or program does it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.e2e.fates import Fate
from tests.e2e.plain_paths import (
    BY_RESPONSES,
    CALLERS_TOOLS,
    ODD_USAGE,
    OF_PROGRAMS,
    OF_THE_PAGE,
    TASKS,
    TOOLS,
)
from tests.e2e.plays import (
    ask,
    call,
    continue_and_stop,
    continue_at_once,
    continue_twice,
    stop,
    stop_and_continue,
    stop_before_the_first_word,
)
from tests.e2e.stage import Play


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A way of asking: what it plays and how many generations the upstream is asked for.

    `fates` names what becomes of its chat generations, in their order, where that is not what the
    rules of `fates.py` say; one fate stands for all of them.
    """

    name: str
    play: Callable[[Play], object]
    generations: int
    fates: Mapping[str, tuple[Fate, ...]] = field(default_factory=dict)


_SPECIAL = (
    Scenario(
        name="continue, twice",
        play=continue_twice,
        generations=8,
        fates={"pipelines": (Fate.BOOKED, Fate.ESTIMATED, Fate.ESTIMATED)},
    ),
    Scenario(
        name="stop, then continue",
        play=stop_and_continue,
        generations=2,
        fates={"pipelines": (Fate.UNMETERED, Fate.ESTIMATED)},
    ),
    Scenario(name="continue, stopped twice", play=continue_and_stop, generations=3),
    Scenario(name="stop before the first word", play=stop_before_the_first_word, generations=1),
    Scenario(name="stop in mid-answer", play=lambda play: stop(play, "[[hold]]", 1), generations=1),
    Scenario(
        name="stop in mid-answer, Responses API upstream",
        play=lambda play: stop(play, "[[hold]] [[length=9]]", 1, BY_RESPONSES),
        generations=1,
    ),
    Scenario(
        name="stop in the third generation of a tool loop",
        play=lambda play: stop(play, "[[tools=2]] [[hold]]", 3),
        generations=3,
        fates={"pipelines": (Fate.UNMETERED,)},
    ),
    Scenario(
        name="chat deleted in mid-answer",
        play=lambda play: stop(play, "[[hold]]", 1, delete=True),
        generations=1,
    ),
    Scenario(
        name="API, caller hangs up",
        play=lambda play: play.visitor.hang_up("[[hold]]"),
        generations=1,
    ),
    Scenario(
        name="Messages API, caller hangs up",
        play=lambda play: play.visitor.hang_up("[[hold]]", "/api/v1/messages"),
        generations=1,
    ),
    Scenario(
        name="API, not streamed, only tool calls",
        play=call("[[tools]]", stream=False, **CALLERS_TOOLS),
        generations=1,
        fates={"function": (Fate.UNMETERED,), "pipelines": (Fate.HIDDEN,)},
    ),
    Scenario(
        name="legacy tool selection",
        play=ask("hello", params={"function_calling": "legacy"}, **TOOLS),
        generations=2,
    ),
    Scenario(
        name="back door /openai/chat/completions",
        play=call("hello", stream=True, path="/openai/chat/completions"),
        generations=1,
        fates={"function": (Fate.HIDDEN,), "pipelines": (Fate.HIDDEN,)},
    ),
    Scenario(
        name="429 in the second step of a tool loop",
        play=ask("[[tools]] [[429]] [[later]]", **TOOLS),
        generations=2,
        fates={
            "function": (Fate.BOOKED, Fate.NOTHING),
            "pipelines": (Fate.BOOKED, Fate.NOTHING),
        },
    ),
    Scenario(
        name="cost null in the second step of a tool loop",
        play=ask("[[tools]] [[null-cost]] [[later]]", **TOOLS),
        generations=2,
        fates={"pipelines": (Fate.ESTIMATED,)},
    ),
    Scenario(
        name="continue without streaming",
        play=continue_at_once,
        generations=2,
        fates={
            "function": (Fate.BOOKED, Fate.ESTIMATED),
            "pipelines": (Fate.BOOKED, Fate.ESTIMATED),
        },
    ),
    Scenario(
        name="usage repeated in the finish chunk",
        play=ask("[[usage=repeat]]"),
        generations=1,
        fates={"pipelines": (Fate.ESTIMATED,)},
    ),
    Scenario(
        name="usage twice, the first one too low",
        play=ask("[[usage=grow]]"),
        generations=1,
        fates={"pipelines": (Fate.ESTIMATED,)},
    ),
    Scenario(
        name="running totals on every chunk",
        play=ask("[[usage=running]]"),
        generations=1,
        fates={"pipelines": (Fate.ESTIMATED,)},
    ),
    Scenario(name="402 before the answer", play=ask("[[402]]"), generations=1),
    Scenario(name="429 before the answer", play=ask("[[429]]"), generations=1),
    Scenario(name="channel", play=lambda play: play.ask_in_channel("hello"), generations=1),
    Scenario(
        name="another connection (not OpenRouter)",
        play=lambda play: play.visitor.ask("hello", "local-llama"),
        generations=4,
    ),
)

SCENARIOS: tuple[Scenario, ...] = (
    *(
        Scenario(name=name, play=play, generations=count)
        for name, play, count in (*OF_THE_PAGE, *OF_PROGRAMS)
    ),
    *(
        Scenario(name=f"oddity {word}", play=ask(f"[[{word}]]"), generations=1)
        for word in ODD_USAGE
    ),
    *(Scenario(name=f"task {name}", play=play, generations=1) for name, play in TASKS),
    *_SPECIAL,
)
