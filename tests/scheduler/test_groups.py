"""Request groups of flavors: what extra specs come to, and which of them are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cell_service.errors import Invalid
from cell_service.model import demand
from cell_service.model.request_groups import RequestGroup, RequestGroups, groups_of
from tests.scheduler.federation import SMALL


def groups(extra: dict[str, str], *, volume_backed: bool = False) -> RequestGroups:
    return groups_of(replace(SMALL, extra_specs=extra), volume_backed=volume_backed)


SIZES = {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}


def test_a_plain_flavor_has_the_unnumbered_group_alone() -> None:
    assert groups({}) == RequestGroups(RequestGroup(SIZES))
    extra = {"resources:VCPU": "0", "trait:CUSTOM_A": "required", "trait:CUSTOM_B": "forbidden"}
    unnumbered = RequestGroup({"MEMORY_MB": 512, "DISK_GB": 1}, frozenset({"CUSTOM_A"}), frozenset({"CUSTOM_B"}))
    assert groups(extra) == RequestGroups(unnumbered)


def test_numbered_groups_stay_apart() -> None:
    found = groups(
        {
            "resources1:CUSTOM_X": "1", "resources1:CUSTOM_Z": "0", "trait1:CUSTOM_A": "required",
            "resources_gpu-2:VGPU": "2", "trait_gpu-2:CUSTOM_B": "forbidden",
            "resources:CUSTOM_X": "4", "resources3:DISK_GB": "7", "resources4:VGPU": "0", "group_policy": "isolate",
        }
    )  # fmt: skip
    assert found.unnumbered == RequestGroup({"VCPU": 1, "MEMORY_MB": 512, "CUSTOM_X": 4})
    assert found.numbered == {
        "1": RequestGroup({"CUSTOM_X": 1}, frozenset({"CUSTOM_A"})),
        "3": RequestGroup({"DISK_GB": 7}),
        "_gpu-2": RequestGroup({"VGPU": 2}, frozenset(), frozenset({"CUSTOM_B"})),
    }
    assert found.isolate


def test_the_groups_come_to_what_quotas_count() -> None:
    extra = {"resources1:VCPU": "2", "resources2:VCPU": "3", "resources:VCPU": "1", "resources2:VGPU": "1"}
    found = groups(extra)
    sums: dict[str, int] = {}
    for group in (found.unnumbered, *found.numbered.values()):
        for name, amount in group.resources.items():
            sums[name] = sums.get(name, 0) + amount
    assert sums == demand.of_flavor(replace(SMALL, extra_specs=extra), volume_backed=False)


def test_a_group_of_traits_alone_is_of_a_subtree() -> None:
    extra = {"resources_A:VGPU": "1", "trait_B:CUSTOM_A": "required", "same_subtree": "_A, _B"}
    assert groups(extra).same_subtree == (frozenset({"_A", "_B"}),)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"resources1:VGPU": "some"}, "Invalid amount in flavor extra spec resources1:VGPU: some"),
        ({"trait1:CUSTOM_A": "required"}, "traits for request group 1, but no resources"),
        ({"trait1:CUSTOM_A": "required", "resources1:VGPU": "0"}, "traits for request group 1, but no resources"),
        ({"trait:CUSTOM_A": "maybe"}, "extra spec trait:CUSTOM_A: maybe is not required or forbidden"),
        ({"resources1:VGPU": "1", "group_policy": "both"}, "group_policy: both is not none or isolate"),
        ({"group_policy": "both"}, "group_policy: both is not none or isolate"),
        ({"resources1:VGPU": "1", "same_subtree": "1,2"}, "same_subtree: 2 is no request group"),
    ],
)
def test_what_is_ill_formed_is_refused(extra: dict[str, str], reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        groups(extra)
