"""The lock beside a spool file: one process at a time opens or writes it."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.core.file_lock import lock_file, unlock_file


def spool_file_mode(folder: Path) -> int:
    """Return the mode of new files: shared where the folder hands its group down (setgid)."""
    return 0o660 if folder.stat().st_mode & stat.S_ISGID else 0o600


def make_spool_folder(folder: Path) -> None:
    """Create the folder of a spool unless it exists, for the group where its parent is shared."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & stat.S_ISGID:
            folder.chmod(0o2770)


def create_spool_file(path: Path) -> None:
    """Create an empty file with the mode of its folder, whatever the umask, unless it exists."""
    make_spool_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    os.close(descriptor)
    path.chmod(spool_file_mode(path.parent))


@contextmanager
def spool_lock(path: Path) -> Iterator[None]:
    """Hold the exclusive lock `<path>.lock`, among processes and among threads.

    Makes the folder and the lock where there is none. It waits as long as it takes: a holder that
    dies lets go. SQLite's own busy handler would starve writers (measured with 4 processes on a
    20 ms disk: p99 0.6 to 2.2 s against 0.13 s). The file is opened anew each time, so that a
    forked process never shares a lock with its parent.
    """
    descriptor = _open_spool_lock(f"{path}.lock")
    try:
        lock_file(descriptor)
        try:
            yield
        finally:
            unlock_file(descriptor)
    finally:
        os.close(descriptor)


def _open_spool_lock(lock_path: str) -> int:
    try:
        return os.open(lock_path, os.O_RDWR)
    except FileNotFoundError:
        create_spool_file(Path(lock_path))
        return os.open(lock_path, os.O_RDWR)
