"""Routes: the directory of users, and forgetting one of them."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from scheduler.api.deps import SidecarDep
from scheduler.api.fields import PathLabel
from scheduler.services.erasure import Erasure, erase

router = APIRouter(prefix="/users", tags=["users"])


class UserBody(BaseModel):
    """A user that has a name, or else an e-mail."""

    user_id: str
    name: str


@router.get("")
def list_users(sidecar: SidecarDep) -> list[UserBody]:
    """All users that have a name."""
    names = sidecar.summaries.users.names()
    return [UserBody(user_id=user_id, name=names[user_id]) for user_id in sorted(names)]


@router.delete("/{user_id}")
def erase_user(
    user_id: Annotated[PathLabel, Path()],
    sidecar: SidecarDep,
    events: Annotated[bool, Query(description="also put an alias into events")] = False,
) -> Erasure:
    """Forget a user: the profile always, events where the event store can change them."""
    return erase(sidecar, user_id, with_events=events)
