"""The volume companion: Block Storage v3."""
