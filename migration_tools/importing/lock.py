"""The lock of a folder of backups: one migration or rollback at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from shared.errors import MigrationError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one migration or rollback run at a time. Raises MigrationError while another one does."""
    with _locked_file(folder):
        yield


def _locked_file(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise MigrationError(f"{folder} cannot hold backups: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise MigrationError(f"another migration or rollback is running in {folder}") from None
    return file
