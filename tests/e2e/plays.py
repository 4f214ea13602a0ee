"""What people and programs do on a stage, as a play of its own."""

from collections.abc import Callable
from typing import Any

from tests.e2e.stage import Play
from tests.e2e.visitor import TOOL_ID


def second_turn(play: Play) -> None:
    """Ask, and ask on in the same chat."""
    chat = play.visitor.ask("hello")
    play.wait(4)
    play.visitor.ask("and more", chat=chat)


def regenerate(play: Play) -> None:
    """Ask, and have it answered anew."""
    chat = play.visitor.ask("hello")
    play.wait(4)
    play.visitor.regenerate(chat)


def continue_twice(play: Play) -> None:
    """Let an answer go on two times."""
    chat = play.visitor.ask("hello")
    play.wait(4)
    play.visitor.continue_answer(chat)
    play.wait(6)
    play.visitor.continue_answer(chat)


def continue_at_once(play: Play) -> None:
    """Let an answer go on that is not streamed."""
    chat = play.visitor.ask("hello", background_tasks={}, stream=False)
    play.wait(1)
    play.visitor.continue_answer(chat, stream=False, background_tasks={})


def stop(play: Play, prompt: str, open_at: int, *models: str, delete: bool = False) -> None:
    """Press Stop, or delete the chat, when so many generations have begun."""
    chat = play.visitor.ask(prompt, *models, tool_ids=[TOOL_ID], background_tasks={})
    play.wait_for_open(open_at)
    if delete:
        play.visitor.delete(chat)
    else:
        play.visitor.stop(chat)


def stop_before_the_first_word(play: Play) -> None:
    """Press Stop while nothing has come yet."""
    chat = play.visitor.ask("[[first=20]]", background_tasks={})
    play.wait_for_open(1, words=0)
    play.visitor.stop(chat)


def stop_and_continue(play: Play) -> None:
    """Press Stop in mid-answer, and let it go on to its end."""
    chat = play.visitor.ask("[[hold]]", background_tasks={})
    play.wait_for_open(1)
    play.visitor.stop(chat)
    play.wait(1)
    play.visitor.continue_answer(chat, background_tasks={})
    play.wait_for_open(2)
    play.stage.installation.release()


def continue_and_stop(play: Play) -> None:
    """Let an answer go on, and press Stop in its second part, and once more in its third."""
    chat = play.visitor.ask("[[hold]]", background_tasks={})
    play.wait_for_open(1)
    play.stage.installation.release()
    play.wait(1)
    for generations in (2, 3):
        play.visitor.continue_answer(chat, background_tasks={})
        play.wait_for_open(generations)
        play.visitor.stop(chat)
        play.wait(generations)


def temporary(play: Play) -> None:
    """Ask two times in a chat that is not saved."""
    play.visitor.ask_temporarily("leave no trace")
    play.wait(2)
    play.visitor.ask_temporarily("nor of this")


def ask(prompt: str, *models: str, **more: Any) -> Callable[[Play], None]:
    """Return a play that asks in a new chat, without background tasks."""

    def play_it(play: Play) -> None:
        play.visitor.ask(prompt, *models, background_tasks={}, **more)

    return play_it


def call(prompt: str, *, stream: bool, **more: Any) -> Callable[[Play], None]:
    """Return a play that calls the API."""

    def play_it(play: Play) -> None:
        play.visitor.call(prompt, stream=stream, **more)

    return play_it


def task(name: str, **body: Any) -> Callable[[Play], None]:
    """Return a play that asks for a background task as the page does."""

    def play_it(play: Play) -> None:
        play.visitor.run_task(name, **body)

    return play_it
