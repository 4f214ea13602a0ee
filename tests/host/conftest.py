"""The plugin as a test file's `HOST` loads it: `function` or `pipeline`."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.host.plugin import load_as_function, load_as_pipeline, running


@pytest.fixture(scope="module")
def module(request: pytest.FixtureRequest) -> ModuleType:
    return load_as_function() if request.module.HOST == "function" else load_as_pipeline()


@pytest.fixture
def plugin(request: pytest.FixtureRequest, module: ModuleType, tmp_path: Path) -> Iterator[Any]:
    """The plugin with a spool of its own; in Pipelines without the directory of names."""
    if request.module.HOST == "function":
        with running(module, "Filter", spool_dir=str(tmp_path)) as found:
            yield found
    else:
        with running(module, "Pipeline", spool_dir=str(tmp_path), user_directory=False) as found:
            yield found
