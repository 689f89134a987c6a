"""The bodies of the network's routes fit where the published ones do."""

from __future__ import annotations

import pytest

from api_cell.compute.proxies import external_events, security_groups
from api_cell.compute.proxies import networks as network_proxies
from api_cell.compute.servers import interfaces as server_interfaces
from api_cell.edge.route import Route
from api_cell.edge.router import validator_at
from cell_service.errors import Invalid
from tests.compute.test_schemas import bodies, changed, compiled_of
from tests.edge import reference

VERSIONS = [
    "2.1",
    "2.35",
    "2.43",
    "2.48",
    "2.49",
    "2.50",
    "2.51",
    "2.75",
    "2.76",
    "2.81",
    "2.82",
    "2.92",
    "2.93",
    "2.96",
]
ID = "3df201cf-2451-44f2-8d25-a4ca826fc1f3"
SECTIONS = (external_events, network_proxies, security_groups, server_interfaces)
ROUTES = [route for section in SECTIONS for route in section.ROUTES if route.body is not None]
SAMPLES = {
    "/servers/{server_id}/os-interface": [
        {"interfaceAttachment": {"port_id": ID, "tag": "a"}},
        {"interfaceAttachment": {"net_id": ID, "fixed_ips": [{"ip_address": "10.0.0.1"}]}},
    ],
    "/os-server-external-events": [
        {"events": [{"name": field.name, "server_uuid": ID, "status": "failed", "tag": "t"}]}
        for field in external_events.NAMES
    ],
    "/os-floating-ips": [{"pool": "a"}, {}],
    "/os-security-groups/{id}": [{"security_group": {"name": "a", "description": "b"}}],
    "addFloatingIp": [{"addFloatingIp": {"address": "10.0.0.1", "fixed_address": "::1"}}],
    "removeFloatingIp": [{"removeFloatingIp": {"address": "10.0.0.1"}}],
}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path} {route.action or ''}")
def test_the_same_bodies_fit(route: Route) -> None:
    reference.demand()
    compiled = compiled_of(route)
    samples = [*bodies(route), *SAMPLES.get(route.action or route.path, [])]
    assert samples
    for version in VERSIONS:
        if not compiled.serves(reference.parsed(version)):
            continue
        validator = validator_at(compiled.body, reference.parsed(version))
        assert validator is not None
        for sample in samples:
            for body in changed(sample):
                if route.action is not None and (not isinstance(body, dict) or list(body) != [route.action]):
                    continue
                try:
                    validator.check(body)
                    fits = True
                except Invalid:
                    fits = False
                expected = reference.fits_request(route.method, route.path, version, body, route.action)
                assert fits == expected, f"{version} {str(body)[:300]}"
