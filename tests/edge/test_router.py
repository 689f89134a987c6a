"""Tables of routes."""

from __future__ import annotations

import pytest

from api_cell.app import COMPUTE
from api_cell.edge.api import Api
from api_cell.edge.router import Router
from api_cell.placement.app import placement_api


@pytest.mark.parametrize("api", [COMPUTE, placement_api()], ids=lambda api: api.name)
def test_every_schema_can_be_compiled(api: Api) -> None:
    Router(api.routes).compile()
