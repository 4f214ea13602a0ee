"""Every way in which Open WebUI makes OpenRouter bill something, as a person or program does it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.fates import Fate
from tests.e2e.stage import Play
from tests.e2e.visitor import CALLERS_TOOL, MODEL, OTHER_MODEL, TOOL_ID


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


def _second_turn(play: Play) -> None:
    chat = play.visitor.ask("hello")
    play.wait(4)
    play.visitor.ask("and more", chat=chat)


def _regenerate(play: Play) -> None:
    chat = play.visitor.ask("hello")
    play.wait(4)
    play.visitor.regenerate(chat)


def _continue_twice(play: Play) -> None:
    chat = play.visitor.ask("hello")
    play.wait(4)
    play.visitor.continue_answer(chat)
    play.wait(6)
    play.visitor.continue_answer(chat)


def _continue_at_once(play: Play) -> None:
    chat = play.visitor.ask("hello", background_tasks={}, stream=False)
    play.wait(1)
    play.visitor.continue_answer(chat, stream=False, background_tasks={})


def _stop(play: Play, prompt: str, open_at: int, *, delete: bool = False) -> None:
    chat = play.visitor.ask(prompt, tool_ids=[TOOL_ID], background_tasks={})
    play.wait_for_open(open_at)
    if delete:
        play.visitor.delete(chat)
    else:
        play.visitor.stop(chat)


def _temporary(play: Play) -> None:
    play.visitor.ask_temporarily("leave no trace")
    play.wait(2)
    play.visitor.ask_temporarily("nor of this")


def _ask(prompt: str, *models: str, **more: Any) -> Callable[[Play], None]:
    def play_it(play: Play) -> None:
        play.visitor.ask(prompt, *models, background_tasks={}, **more)

    return play_it


def _call(prompt: str, *, stream: bool, **more: Any) -> Callable[[Play], None]:
    def play_it(play: Play) -> None:
        play.visitor.call(prompt, stream=stream, **more)

    return play_it


def _task(name: str, **body: Any) -> Callable[[Play], None]:
    def play_it(play: Play) -> None:
        play.visitor.run_task(name, **body)

    return play_it


_TOOLS = {"tool_ids": [TOOL_ID]}
_CALLERS_TOOLS = {"tools": [CALLERS_TOOL]}
_OF_THE_PAGE = (
    ("first turn with title, follow-ups, tags", lambda play: play.visitor.ask("hello"), 4),
    ("second turn", _second_turn, 6),
    ("regenerate", _regenerate, 6),
    ("two models side by side", _ask("compare", MODEL, OTHER_MODEL), 2),
    ("same model twice", _ask("twice", MODEL, MODEL), 2),
    ("cached and reasoning tokens", _ask("think [[cached]] [[reasoning]]", OTHER_MODEL), 1),
    ("cost with an exponent", _ask("short [[length=1]]", "openai/gpt-5-nano"), 1),
    ("free model", _ask("for nothing", "meta-llama/llama-4-scout:free"), 1),
    ("saved chat without streaming", _ask("at once", stream=False), 1),
    ("workspace preset", _ask("hello", "house-preset"), 1),
    ("preset without streaming", _ask("hello", "house-preset", stream=False), 1),
    ("arena", _ask("hello", "house-arena"), 1),
    ("router openrouter/auto", _ask("hello", "openrouter/auto"), 1),
    ("tool loop of three", _ask("use it [[tools=2]]", **_TOOLS), 3),
    ("saved tool call without streaming", _ask("[[tools]]", stream=False, **_TOOLS), 1),
    ("temporary chat, two turns", _temporary, 4),
)
_OF_PROGRAMS = (
    ("automation", lambda play: play.visitor.run_automation("hello"), 1),
    ("API, streamed", _call("hello", stream=True), 1),
    ("API, not streamed", _call("hello", stream=False), 1),
    ("API, streamed, caller's tools", _call("[[tools]]", stream=True, **_CALLERS_TOOLS), 1),
    ("Messages API, streamed", lambda play: play.visitor.ask_messages_api("a", stream=True), 1),
    (
        "Messages API, not streamed",
        lambda play: play.visitor.ask_messages_api("b", stream=False),
        1,
    ),
    ("API, cost null, not streamed", _call("[[null-cost]]", stream=False), 1),
    ("API, cost null, streamed", _call("[[null-cost]]", stream=True), 1),
    ("API, usage never sent, streamed", _call("[[usage=never]]", stream=True), 1),
    ("API, preset, not streamed", _call("hello", stream=False, model="house-preset"), 1),
    ("API, arena, streamed", _call("hello", stream=True, model="house-arena"), 1),
    ("API, router, not streamed", _call("hello", stream=False, model="openrouter/auto"), 1),
    ("proxy before OpenRouter, page", lambda play: play.visitor.ask("hello", "house-mini"), 4),
    ("proxy before OpenRouter, API", _call("hello", stream=False, model="house-mini"), 1),
    ("connection with a prefix", _ask("hello", "or.openai/gpt-5-nano"), 1),
    ("API, connection with a prefix", _call("hi", stream=False, model="or.openai/gpt-5-nano"), 1),
)
_ODD_USAGE = (
    "usage=delta",
    "usage=finish-twice",
    "usage=never",
    "null-cost",
    "no-cost",
    "string-cost",
    "byok",
    "fees",
    "discount",
    "dated-name",
    "other-model",
    "split",
    "error-before-usage",
    "error-after-usage",
)
_TASKS = (
    ("title", _task("title")),
    ("tags", _task("tags")),
    ("follow-ups", _task("follow_up")),
    ("queries", _task("queries", type="web_search")),
    ("autocompletion", _task("auto", type="general", prompt="hel")),
    ("emoji", _task("emoji", prompt="hello")),
    ("image prompt", _task("image_prompt")),
    ("mixture of answers", _task("moa", prompt="hello", responses=["a", "b"])),
)
_SPECIAL = (
    Scenario(
        name="continue, twice",
        play=_continue_twice,
        generations=8,
        fates={"pipelines": (Fate.BOOKED, Fate.ESTIMATED, Fate.ESTIMATED)},
    ),
    Scenario(
        name="stop in mid-answer", play=lambda play: _stop(play, "[[hold]]", 1), generations=1
    ),
    Scenario(
        name="stop in the third generation of a tool loop",
        play=lambda play: _stop(play, "[[tools=2]] [[hold]]", 3),
        generations=3,
        fates={"pipelines": (Fate.UNMETERED,)},
    ),
    Scenario(
        name="chat deleted in mid-answer",
        play=lambda play: _stop(play, "[[hold]]", 1, delete=True),
        generations=1,
    ),
    Scenario(
        name="API, caller hangs up",
        play=lambda play: play.visitor.hang_up("[[hold]]"),
        generations=1,
    ),
    Scenario(
        name="API, not streamed, only tool calls",
        play=_call("[[tools]]", stream=False, **_CALLERS_TOOLS),
        generations=1,
        fates={"function": (Fate.HIDDEN,), "pipelines": (Fate.HIDDEN,)},
    ),
    Scenario(
        name="legacy tool selection",
        play=_ask("hello", params={"function_calling": "legacy"}, **_TOOLS),
        generations=2,
    ),
    Scenario(
        name="back door /openai/chat/completions",
        play=_call("hello", stream=True, path="/openai/chat/completions"),
        generations=1,
        fates={"function": (Fate.HIDDEN,), "pipelines": (Fate.HIDDEN,)},
    ),
    Scenario(
        name="429 in the second step of a tool loop",
        play=_ask("[[tools]] [[429]] [[later]]", **_TOOLS),
        generations=2,
        fates={"pipelines": (Fate.BOOKED, Fate.NOTHING)},
    ),
    Scenario(
        name="cost null in the second step of a tool loop",
        play=_ask("[[tools]] [[null-cost]] [[later]]", **_TOOLS),
        generations=2,
        fates={"pipelines": (Fate.MISSTATED,)},
    ),
    Scenario(
        name="continue without streaming",
        play=_continue_at_once,
        generations=2,
        fates={
            "function": (Fate.BOOKED, Fate.ESTIMATED),
            "pipelines": (Fate.BOOKED, Fate.ESTIMATED),
        },
    ),
    Scenario(
        name="usage repeated in the finish chunk",
        play=_ask("[[usage=repeat]]"),
        generations=1,
        fates={"pipelines": (Fate.ESTIMATED,)},
    ),
    Scenario(
        name="running totals on every chunk",
        play=_ask("[[usage=running]]"),
        generations=1,
        fates={"pipelines": (Fate.ESTIMATED,)},
    ),
    Scenario(name="402 before the answer", play=_ask("[[402]]"), generations=1),
    Scenario(name="429 before the answer", play=_ask("[[429]]"), generations=1),
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
        for name, play, count in (*_OF_THE_PAGE, *_OF_PROGRAMS)
    ),
    *(
        Scenario(name=f"oddity {word}", play=_ask(f"[[{word}]]"), generations=1)
        for word in _ODD_USAGE
    ),
    *(Scenario(name=f"task {name}", play=play, generations=1) for name, play in _TASKS),
    *_SPECIAL,
)
