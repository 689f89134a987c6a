"""The Placement API, 1.0 to 1.39: routes, schemas and handlers over mapping_db.placement."""
