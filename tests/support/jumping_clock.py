"""A wall clock that a test sets, for processes: a shim that is compiled and preloaded."""

import mmap
import shutil
from pathlib import Path
from struct import pack
from subprocess import run

from tests.conftest import missing


class JumpingClock:
    """The wall clock of processes that are started with `environment`."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("gcc") is None:
            missing("gcc", "install it: the clock shim of this test is compiled")
        shim, offset = folder / "clock_shim.so", folder / "offset"
        source = Path(__file__).with_name("clock_shim.c")
        run(["gcc", "-shared", "-fPIC", "-O2", "-o", shim, source], check=True)
        offset.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(shim), "CLOCK_OFFSET_FILE": str(offset)}
        self._file = offset.open("r+b")
        self._page = mmap.mmap(self._file.fileno(), 8)

    def jump_to(self, seconds: float) -> None:
        """Set the clock so far ahead of the real one."""
        self._page[:] = pack("q", round(seconds * 10**9))

    def close(self) -> None:
        """Let the file go."""
        self._page.close()
        self._file.close()
