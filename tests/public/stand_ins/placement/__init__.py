"""A part of the placement service that public tests import."""
