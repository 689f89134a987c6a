"""The identity companion: Identity v3."""
