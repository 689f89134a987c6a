"""The Compute API: routes, handlers, schemas and views."""
