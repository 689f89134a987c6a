"""POST /os-aggregates/{id}/images: hosts fetch images before any server is built from them."""

from __future__ import annotations

import logging

from api_cell.compute.hosts.aggregates import aggregate_id
from api_cell.edge.route import Request, Response, Route
from api_cell.edge.shapes import UUID, strict
from cell_service.errors import ImageNotFound, Invalid, Unavailable
from cell_service.logs import about
from mapping_db import aggregates, host_mappings

log = logging.getLogger(__name__)

_BODY = strict({"cache": {"type": ["array"], "minItems": 1, "items": strict({"id": UUID}, "id")}}, "cache")


def cache(req: Request) -> Response:
    """202: every host of the aggregate that answers will have the images. 400 for an image named twice."""
    image_ids = tuple(each["id"] for each in req.body["cache"])
    if len(set(image_ids)) != len(image_ids):
        raise Invalid(reason="An image is named more than once.")
    with req.cloud.db.connect() as tx:
        hosts = list(aggregates.get(tx, aggregate_id(req)).hosts)
        mappings = host_mappings.of_hosts(tx, hosts) if hosts else []
    for image_id in image_ids:
        req.services.require_images().get(req.ctx, image_id)
    for mapping in mappings:
        try:
            req.cloud.cells.open(mapping.cell_id).compute(mapping.host).cache_images(req.ctx, image_ids)
        except Unavailable as error:
            log.warning("host not requested to cache images", extra=about(req.ctx, host=mapping.host, reason=error))
    return Response(202)


ROUTES = (
    Route("POST", "/os-aggregates/{id}/images", cache, rule="compute:aggregates:images", body=_BODY,
          min_version=(2, 81), bad_reference=(ImageNotFound,)),
)  # fmt: skip
