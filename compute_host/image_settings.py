"""How a host treats images, from its configuration file. The names are Nova's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from oslo_config import cfg

from cell_service.config import option


@dataclass(frozen=True, slots=True)
class ImageCacheOptions:
    """[image_cache]"""

    GROUP: ClassVar[str] = "image_cache"
    manager_interval: int = option(
        cfg.IntOpt(
            "manager_interval",
            default=2400,
            min=-1,
            help="Seconds between removals of unused images from a host's cache; 0: a minute; -1: never.",
        )
    )
    remove_unused_base_images: bool = option(
        cfg.BoolOpt(
            "remove_unused_base_images", default=True, help="Images in a host's cache that no guest uses are removed."
        )
    )
    remove_unused_original_minimum_age_seconds: int = option(
        cfg.IntOpt(
            "remove_unused_original_minimum_age_seconds", default=86400, help="Seconds for which an unused one is kept."
        )
    )
    precache_concurrency: int = option(
        cfg.IntOpt(
            "precache_concurrency",
            default=1,
            min=1,
            help="Images that a host fetches at a time before guests need them.",
        )
    )

    @property
    def manager_seconds(self) -> float | None:
        """None: never."""
        return None if self.manager_interval < 0 else self.manager_interval or 60.0


@dataclass(frozen=True, slots=True)
class InspectionOptions:
    """[compute], the options for images."""

    GROUP: ClassVar[str] = "compute"
    vmdk_allowed_types: tuple[str, ...] = option(
        cfg.ListOpt(
            "vmdk_allowed_types",
            default=["streamOptimized", "monolithicSparse"],
            help="Kinds (createType) of VMDK images that guests may be made from; only kinds in one file can be.",
        )
    )


@dataclass(frozen=True, slots=True)
class SignatureOptions:
    """[glance], the options for signatures of images."""

    GROUP: ClassVar[str] = "glance"
    verify_glance_signatures: bool = option(
        cfg.BoolOpt(
            "verify_glance_signatures",
            default=False,
            help="Hosts start guests only from images whose signature is right.",
        )
    )
    enable_certificate_validation: bool = option(
        cfg.BoolOpt(
            "enable_certificate_validation",
            default=False,
            help="With verify_glance_signatures: the signer's certificate must be trusted too.",
        )
    )
    default_trusted_certificate_ids: tuple[str, ...] = option(
        cfg.ListOpt(
            "default_trusted_certificate_ids",
            default=[],
            help="Certificates in the key manager that are trusted where a request names none and both checks are on.",
        )
    )
