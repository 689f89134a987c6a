"""Connections of openstacksdk to the installed cloud."""

from __future__ import annotations

from typing import Any

import openstack

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGjW2DMVvlm6bKzj5LnHGBJYQCXSm8xGLBOCyOnGxJSP ann@example"


def connection(environment: dict[str, str], version: str) -> Any:
    """What the environment's user connects with, speaking one version of the compute API."""
    names = ("auth_url", "username", "password", "project_name", "user_domain_name", "project_domain_name")
    return openstack.connection.Connection(
        auth={name: environment[f"OS_{name.upper()}"] for name in names}, region_name="RegionOne",
        identity_api_version="3", compute_default_microversion=version,
    )  # fmt: skip
