"""Composing the Placement API."""

from __future__ import annotations

from api_cell.config import ApiSettings
from api_cell.contract import SuperConductor
from api_cell.edge.api import Api, Versioning
from api_cell.edge.auth import Authenticator
from api_cell.edge.edge import Edge
from api_cell.edge.policy import Policy
from api_cell.edge.schema import Wording
from api_cell.placement import policies, query
from api_cell.placement.faults import placement_fault
from api_cell.placement.history import NEWEST, OLDEST
from api_cell.placement.routes import ROUTES
from api_cell.services import Services
from cell_service.rpc.contract import client
from mapping_db.cloud import Cloud

_BODY = "JSON does not validate: {problem}. Failed validating '{rule}' in schema{place}"
_VERSIONING = Versioning(
    form=r"(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})",
    malformed="invalid version string: {version}",
    unknown="Unacceptable version header: {version}",
    vary="openstack-api-version",
)


def placement_api(prefix: str = "") -> Api:
    """The API below a prefix; its version document is at the prefix itself."""
    return Api(
        name="placement",
        service_type="placement",
        min_version=OLDEST,
        max_version=NEWEST,
        routes=ROUTES,
        render_fault=placement_fault,
        body_wording=Wording(_BODY.replace("{problem}", "{problem} in '{path}'"), _BODY),
        query_wording=Wording(query.NOT_FITTING, query.NOT_FITTING),
        malformed="Malformed JSON: {error}",
        versioning=_VERSIONING,
        strict_media=True,
        prefix=prefix,
    )


def make_placement_app(cloud: Cloud, settings: ApiSettings, authenticator: Authenticator, *, prefix: str = "") -> Edge:
    """The Placement API on this cloud's global database; give it to an ApiServer."""
    services = Services(settings, client(SuperConductor, cloud.bus))
    policy = Policy(policies.RULES, settings.policy, judges=policies.judges)
    return Edge(placement_api(prefix), cloud, services, settings, policy, authenticator)
