"""An exclusive lock on an open file, among processes and among threads."""

import sys
import time


def lock_file(descriptor: int, *, wait: bool = True) -> bool:
    """Take the lock, or return False if another holder has it and we do not wait.

    It ends with `unlock_file`, or with the process however that ends. Raises OSError where the file
    system has no locks.
    """
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    import msvcrt

    while True:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            return True
        except OSError:
            if not wait:
                return False
            time.sleep(0.005)


def unlock_file(descriptor: int) -> None:
    """Release the lock; closing alone would not while a forked process has the descriptor too."""
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return
    import msvcrt

    msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
