"""The lock of a folder of backups: one migration or rollback at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import MigrationError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one migration or rollback run at a time. Raises MigrationError while another one does."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError:
        raise MigrationError(f"another migration or rollback is running in {folder}") from None
    except PermissionError as error:
        raise MigrationError(f"{folder} cannot be used: {error.strerror}") from error
