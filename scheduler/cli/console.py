"""Where commands write, and how they end when something is wrong."""

from typing import NoReturn

import typer
from rich.console import Console

OUT = Console(highlight=False)
ERR = Console(stderr=True, highlight=False)


def fail(sentence: str) -> NoReturn:
    """Print what is wrong to the standard error and end with exit code 1."""
    ERR.print(sentence, markup=False, soft_wrap=True)
    raise typer.Exit(1)
