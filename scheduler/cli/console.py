"""The console of the commands, and how they end on an error."""

from typing import NoReturn

import typer
from rich.console import Console

OUT = Console(highlight=False)
ERR = Console(stderr=True, highlight=False)


def fail(message: str) -> NoReturn:
    """Print an error and end with exit code 1."""
    ERR.print(message, markup=False, soft_wrap=True)
    raise typer.Exit(1)
