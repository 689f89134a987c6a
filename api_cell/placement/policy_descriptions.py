"""Descriptions of the Placement API's rules, for the sample policy file: what a caller may do by each.

A line is a rule and the end of the sentence "The caller may …"; its routes check it.
"""

from __future__ import annotations

BASE = {
    "admin_api": "The caller is an administrator.",
    "service_api": "The caller is another service of the cloud.",
    "project_reader_api": "The caller may read what is of the project.",
    "admin_or_project_reader_or_service_api": "The caller is an administrator, a service, or of the project.",
    "admin_or_service_api": "The caller is an administrator or another service of the cloud.",
}

ALLOWED = """
placement:allocation_candidates:list: list the providers that can take an allocation
placement:allocations:delete: delete the allocations of a consumer
placement:allocations:list: list the allocations of a consumer
placement:allocations:manage: replace the allocations of several consumers at once
placement:allocations:update: replace the allocations of a consumer
placement:reshaper:reshape: move inventories and their allocations between providers at once
placement:resource_classes:create: create a resource class
placement:resource_classes:delete: delete a resource class
placement:resource_classes:list: list resource classes
placement:resource_classes:show: see one resource class
placement:resource_classes:update: rename a resource class, or make sure that it exists
placement:resource_providers:aggregates:list: list the aggregates of a resource provider
placement:resource_providers:aggregates:update: replace the aggregates of a resource provider
placement:resource_providers:allocations:list: list the allocations of a resource provider
placement:resource_providers:create: create a resource provider
placement:resource_providers:delete: delete a resource provider
placement:resource_providers:inventories:create: add an inventory to a resource provider
placement:resource_providers:inventories:delete: delete one or all inventories of a resource provider
placement:resource_providers:inventories:list: list the inventories of a resource provider
placement:resource_providers:inventories:show: see the inventory of a resource provider in one class
placement:resource_providers:inventories:update: change one or all inventories of a resource provider
placement:resource_providers:list: list resource providers
placement:resource_providers:show: see one resource provider
placement:resource_providers:traits:delete: remove all traits of a resource provider
placement:resource_providers:traits:list: list the traits of a resource provider
placement:resource_providers:traits:update: replace the traits of a resource provider
placement:resource_providers:update: change the name or the parent of a resource provider
placement:resource_providers:usages: see what is used of a resource provider
placement:traits:delete: delete a trait
placement:traits:list: list traits
placement:traits:show: see whether a trait exists
placement:traits:update: create a trait
placement:usages: see what a project or a user consumes | GET /usages
"""
