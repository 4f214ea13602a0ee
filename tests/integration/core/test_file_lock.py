"""The lock of a file among descriptors and processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.core.file_lock import lock_file, unlock_file
from tests.conftest import ROOT

HOLDER = """
import os, sys
from shared.core.file_lock import lock_file
lock_file(os.open(sys.argv[1], os.O_RDWR))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "lock"
    path.touch()
    return path


@pytest.fixture
def descriptors(path: Path) -> Iterator[tuple[int, int]]:
    opened = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    yield opened
    for descriptor in opened:
        os.close(descriptor)


def test_one_holds_it_at_a_time(descriptors: tuple[int, int]) -> None:
    first, second = descriptors
    assert lock_file(first)
    assert not lock_file(second, wait=False)
    unlock_file(first)
    assert lock_file(second, wait=False)


def test_it_is_released_although_a_copy_of_the_descriptor_stays_open(
    descriptors: tuple[int, int],
) -> None:
    first, second = descriptors
    copy = os.dup(first)
    assert lock_file(first)
    unlock_file(first)
    assert lock_file(second, wait=False)
    os.close(copy)


def test_it_ends_with_its_process(path: Path, descriptors: tuple[int, int]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert not lock_file(descriptors[0], wait=False)
        holder.kill()
        holder.wait(20)
        assert lock_file(descriptors[0], wait=False)
