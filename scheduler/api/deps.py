"""What every route asks for: the sidecar that this app belongs to."""

from typing import Annotated

from fastapi import Depends, Request

from scheduler.process.running import RunningSidecar


def _sidecar_of(request: Request) -> RunningSidecar:
    sidecar = request.app.state.sidecar
    assert isinstance(sidecar, RunningSidecar)
    return sidecar


SidecarDep = Annotated[RunningSidecar, Depends(_sidecar_of)]
