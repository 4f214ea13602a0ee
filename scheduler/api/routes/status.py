"""Routes: how the sidecar and its store stand, in the words of the original system."""

from fastapi import APIRouter
from pydantic import BaseModel

from scheduler.api.deps import SidecarDep
from scheduler.services import status as service
from scheduler.services.status import ServiceStatus

router = APIRouter(tags=["status"])


class StoreBody(BaseModel):
    """Whether the event store can be used."""

    healthy: bool
    store: str
    detail: str


@router.get("/service-status")
def service_status(sidecar: SidecarDep) -> ServiceStatus:
    """How the sidecar is set up and how delivery stands."""
    return service.service_status(sidecar)


@router.get("/influxdb-health")
def influxdb_health(sidecar: SidecarDep) -> StoreBody:
    """Try the event store now."""
    health = sidecar.store.health()
    return StoreBody(healthy=health.ok, store=sidecar.store.name, detail=health.detail)
