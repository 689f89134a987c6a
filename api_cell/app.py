"""Composing an API process: the cloud and its peers, put behind an edge."""

from __future__ import annotations

from api_cell.compute import documents, history, versions
from api_cell.compute import policies as compute_policies
from api_cell.compute.routes import ROUTES
from api_cell.config import ApiSettings
from api_cell.edge.api import Api
from api_cell.edge.auth import Authenticator, NoAuth
from api_cell.edge.edge import Edge
from api_cell.edge.faults import compute_fault
from api_cell.edge.keystone import Keystone
from api_cell.edge.policy import Policy
from api_cell.edge.server import ApiServer
from api_cell.services import Services
from mapping_db.cloud import Cloud

__all__ = ["COMPUTE", "ApiServer", "Services", "authenticator_for", "make_compute_app"]

COMPUTE = Api(
    name="compute",
    service_type="compute",
    min_version=history.OLDEST,
    max_version=history.NEWEST,
    routes=ROUTES,
    render_fault=compute_fault,
    prefix="/v2.1",
    legacy_prefix="/v2",
    legacy_header="X-OpenStack-Nova-API-Version",
    project_in_path=True,
    roots=documents.ROOTS,
    fallback=versions.choices,
)


def authenticator_for(settings: ApiSettings) -> Authenticator:
    """Keystone, or none (`[api] auth_strategy`)."""
    return NoAuth() if settings.api.auth_strategy == "noauth2" else Keystone(settings.identity)


def make_compute_app(
    cloud: Cloud, services: Services, settings: ApiSettings, authenticator: Authenticator | None = None
) -> Edge:
    """The Compute API on this cloud; give it to an ApiServer."""
    policy = Policy(compute_policies.RULES, settings.policy, judges=compute_policies.judges)
    return Edge(COMPUTE, cloud, services, settings, policy, authenticator or authenticator_for(settings))
