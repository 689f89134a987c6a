"""Every filter: whom it lets pass and whom not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from api_cell.scheduler import requirements
from api_cell.scheduler.config import FilterSection, SchedulerSection
from api_cell.scheduler.filters import registry
from api_cell.scheduler.filters.match import matches
from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import GroupState, RequestView, request_view
from cell_service.errors import Invalid
from cell_service.model.instance import Flavor
from cell_service.model.request_spec import RequestSpec
from mapping_db.aggregates import Aggregate
from mapping_db.placement.inventories import Inventory

FLAVOR = Flavor("1", "m1", vcpus=2, memory_mib=1024, root_gib=10, ephemeral_gib=1, swap_mib=100)
SPEC = RequestSpec(instance_uuid="i", project_id="p1", user_id="u1", flavor=FLAVOR, image_id="img")
HOST = HostState(
    key="k1",
    host="h1",
    node="n1",
    cell_id=1,
    headrooms={
        "VCPU": Inventory(8, used=2, allocation_ratio=2.0),
        "MEMORY_MB": Inventory(8192, used=4096),
        "DISK_GB": Inventory(100, used=50),
    },
    num_instances=5,
    num_io_ops=3,
    hypervisor_type="QEMU",
    hypervisor_version=8_002_003,
    host_ip="10.1.2.3",
    memory_mib=8192,
    vcpus=8,
    local_gib=100,
    supported_instances=(("x86_64", "kvm", "hvm"), ("i686", "qemu", "hvm")),
    cpu_info={"arch": "x86_64", "features": ["avx", "avx2"], "topology": {"cores": 4}},
    stats={"rack": "r7"},
)


def in_aggregates(*metadata: dict[str, str]) -> HostState:
    made = tuple(
        Aggregate(number, str(number), f"a{number}", values, ("h1",), datetime(2026, 1, 1, tzinfo=UTC))
        for number, values in enumerate(metadata)
    )
    return replace(HOST, aggregates=made)


def request(*, hints: dict[str, Any] | None = None, extra: dict[str, str] | None = None, **spec: Any) -> RequestView:
    flavor = replace(spec.pop("flavor", FLAVOR), extra_specs=extra or {})
    return request_view(replace(SPEC, flavor=flavor, scheduler_hints=hints or {}, **spec), SchedulerSection())


def image(**properties: str) -> RequestView:
    return request(image_properties=properties)


def group(policy: str, limit: int = 1, **counts: int) -> RequestView:
    return replace(request(), group=GroupState("g", policy, limit, counts))


CASES: list[tuple[str, HostState, RequestView, str | None]] = [
    ("AllHostsFilter", replace(HOST, up=False), request(), None),
    ("ComputeFilter", HOST, request(), None),
    ("ComputeFilter", replace(HOST, up=False), request(), "is down"),
    ("ComputeFilter", replace(HOST, disabled=True), request(), "is disabled"),
    ("AvailabilityZoneFilter", HOST, request(), None),
    ("AvailabilityZoneFilter", HOST, request(availability_zone="nova"), None),
    ("AvailabilityZoneFilter", HOST, request(availability_zone="east,nova"), None),
    ("AvailabilityZoneFilter", HOST, request(availability_zone="east"), "is not in availability zone east"),
    # capabilities
    ("ComputeCapabilitiesFilter", HOST, request(), None),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"hw:cpu_policy": "shared"}), None),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:hypervisor_type": "QEMU"}), None),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:hypervisor_type": "s== Xen"}),
     "has hypervisor_type QEMU, not s== Xen"),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:hypervisor_version": ">= 8002000"}), None),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:free_ram_mb": ">= 4097"}),
     "has free_ram_mb 4096, not >= 4097"),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:free_ram_mb": "= 4096"}), None),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:cpu_info:features": "<in> avx2"}), None),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:cpu_info:features": "<in> sse9"}),
     'has cpu_info:features ["avx", "avx2"], not <in> sse9'),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:cpu_info:topology:cores": "4"}), None),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:cpu_info:topology:dies": "4"}),
     "has no capability cpu_info:topology:dies"),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:rack": "<or> r1 <or> r7"}), None),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"rack": "r7"}), None),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"rack": "r8"}), "has rack r7, not r8"),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"hypervisor_type": "Xen"}), "has hypervisor_type QEMU, not Xen"),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"ssd": "true", "hide_hypervisor_id": "true"}), None),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"group_policy": "none", "same_subtree": "_A,_B",
                                                       "resources_A:VCPU": "1", "resources_B:VCPU": "1"}), None),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"ssd": "true", "rack": "r8"}), "has rack r7, not r8"),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:ssd": "true"}), "has no capability ssd"),
    # image properties
    ("ImagePropertiesFilter", HOST, image(), None),
    ("ImagePropertiesFilter", HOST, image(hw_architecture="x86_64"), None),
    ("ImagePropertiesFilter", HOST, image(architecture="amd64"), None),
    ("ImagePropertiesFilter", HOST, image(hw_architecture="aarch64"), "does not run aarch64"),
    ("ImagePropertiesFilter", HOST, image(hw_architecture="x86_64", img_hv_type="qemu"), "does not run x86_64 qemu"),
    ("ImagePropertiesFilter", HOST, image(hw_architecture="i386", img_hv_type="qemu", hw_vm_mode="hvm"), None),
    ("ImagePropertiesFilter", HOST, image(vm_mode="pv"), "does not run xen"),
    ("ImagePropertiesFilter", HOST, image(hypervisor_type="KVM"), None),
    ("ImagePropertiesFilter", HOST, image(img_hv_requested_version=">=8.0,<9"), None),
    ("ImagePropertiesFilter", HOST, image(img_hv_requested_version=">=8.2.4"), "has not hypervisor version >=8.2.4"),
    ("ImagePropertiesFilter", HOST, image(img_hv_requested_version="about 8"), "has not hypervisor version about 8"),
    ("ImagePropertiesFilter", replace(HOST, supported_instances=()), image(), None),
    ("ImagePropertiesFilter", replace(HOST, supported_instances=()), image(hw_vm_mode="hvm"), "does not run hvm"),
    # groups
    ("ServerGroupAffinityFilter", HOST, request(), None),
    ("ServerGroupAffinityFilter", HOST, group("affinity"), None),
    ("ServerGroupAffinityFilter", HOST, group("affinity", h1=1), None),
    ("ServerGroupAffinityFilter", HOST, group("affinity", h2=1), "has none of the server group"),
    ("ServerGroupAffinityFilter", HOST, group("soft-affinity", h2=1), None),
    ("ServerGroupAntiAffinityFilter", HOST, group("anti-affinity", h2=1), None),
    ("ServerGroupAntiAffinityFilter", HOST, group("anti-affinity", h1=1), "has one of the server group"),
    ("ServerGroupAntiAffinityFilter", HOST, group("anti-affinity", 2, h1=1), None),
    ("ServerGroupAntiAffinityFilter", HOST, group("anti-affinity", 2, h1=2), "has 2 of the server group"),
    ("ServerGroupAntiAffinityFilter", HOST, group("affinity", h2=1), None),
    # hints
    ("SimpleCIDRAffinityFilter", HOST, request(), None),
    ("SimpleCIDRAffinityFilter", HOST, request(hints={"build_near_host_ip": "10.1.2.200"}), None),
    ("SimpleCIDRAffinityFilter", HOST, request(hints={"build_near_host_ip": "10.1.2.200", "cidr": "/30"}),
     "is not in the network of 10.1.2.200/30"),
    ("SimpleCIDRAffinityFilter", HOST, request(hints={"build_near_host_ip": "nowhere"}),
     "is not in the network of nowhere/24"),
    ("JsonFilter", HOST, request(), None),
    ("JsonFilter", HOST, request(hints={"query": '[">=", "$free_ram_mb", 4096]'}), None),
    ("JsonFilter", HOST, request(hints={"query": '["and", [">", "$vcpus_total", 4], ["<", "$vcpus_used", 2]]'}),
     "does not fulfil the query"),
    ("JsonFilter", HOST, request(hints={"query": '["or", ["=", "$host", "h2"], ["not", ["=", 1, 2]]]'}), None),
    ("JsonFilter", HOST, request(hints={"query": '["in", "$hypervisor_type", "Xen", "QEMU"]'}), None),
    ("JsonFilter", HOST, request(hints={"query": '["?", 1]'}), "is asked a query that can't be read"),
    ("JsonFilter", HOST, request(hints={"query": "no json"}), "is asked a query that can't be read"),
    # load
    ("NumInstancesFilter", replace(HOST, num_instances=49), request(), None),
    ("NumInstancesFilter", replace(HOST, num_instances=50), request(), "runs 50 instances, limit 50"),
    ("AggregateNumInstancesFilter", in_aggregates({"max_instances_per_host": "5"}), request(),
     "runs 5 instances, limit 5"),
    ("AggregateNumInstancesFilter", in_aggregates({"max_instances_per_host": "x"}), request(), None),
    ("AggregateNumInstancesFilter",
     in_aggregates({"max_instances_per_host": "9"}, {"max_instances_per_host": "4"}), request(),
     "runs 5 instances, limit 4"),
    ("IoOpsFilter", replace(HOST, num_io_ops=7), request(), None),
    ("IoOpsFilter", replace(HOST, num_io_ops=8), request(), "has 8 instances in work, limit 8"),
    ("AggregateIoOpsFilter", in_aggregates({"max_io_ops_per_host": "3"}),
     request(), "has 3 instances in work, limit 3"),
    ("AggregateIoOpsFilter", in_aggregates({}), request(), None),
    # aggregates
    ("AggregateInstanceExtraSpecsFilter", HOST, request(), None),
    ("AggregateInstanceExtraSpecsFilter", HOST, request(extra={"aggregate_instance_extra_specs:ssd": "true"}),
     "is in no aggregate with ssd"),
    ("AggregateInstanceExtraSpecsFilter", in_aggregates({"ssd": "true"}),
     request(extra={"aggregate_instance_extra_specs:ssd": "true"}), None),
    ("AggregateInstanceExtraSpecsFilter", in_aggregates({"ssd": "no,true"}), request(extra={"ssd": "true"}), None),
    ("AggregateInstanceExtraSpecsFilter", in_aggregates({"ssd": "no"}), request(extra={"ssd": "true"}),
     "is in no aggregate with ssd true"),
    ("AggregateInstanceExtraSpecsFilter", in_aggregates({}), request(extra={"hw:numa_nodes": "1"}), None),
    ("AggregateMultiTenancyIsolation", HOST, request(), None),
    ("AggregateMultiTenancyIsolation", in_aggregates({"filter_tenant_id": "p2"}),
     request(), "is kept for other projects"),
    ("AggregateMultiTenancyIsolation", in_aggregates({"filter_tenant_id": "p2, p1"}), request(), None),
    ("AggregateMultiTenancyIsolation", in_aggregates({"filter_tenant_id": "p2", "filter_tenant_id2": "p1"}), request(),
     None),
    ("AggregateTypeAffinityFilter", HOST, request(), None),
    ("AggregateTypeAffinityFilter", in_aggregates({"instance_type": "m1,m2"}), request(), None),
    ("AggregateTypeAffinityFilter", in_aggregates({"instance_type": "m2"}), request(), "is kept for other flavors"),
    ("AggregateImagePropertiesIsolation", in_aggregates({"os_distro": "win"}), image(), None),
    ("AggregateImagePropertiesIsolation", in_aggregates({"os_distro": "win"}), image(os_distro="win"), None),
    ("AggregateImagePropertiesIsolation", in_aggregates({"os_distro": "win"}), image(os_distro="bsd"),
     "is kept for images with another os_distro"),
    ("IsolatedHostsFilter", HOST, request(), None),
    ("NUMATopologyFilter", HOST, request(), None),
    ("NUMATopologyFilter", HOST, request(extra={"hw:numa_nodes": "2"}), "offers no NUMA topology"),
    ("NUMATopologyFilter", HOST, image(hw_numa_nodes="2"), "offers no NUMA topology"),
    ("PciPassthroughFilter", HOST, request(extra={"pci_passthrough:alias": "gpu:1"}), "offers no PCI passthrough"),
    ("PciPassthroughFilter", HOST, request(), None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "host", "view", "reason"), CASES)
def test_filters(name: str, host: HostState, view: RequestView, reason: str | None) -> None:
    assert registry.FILTERS[name](FilterSection()).reject(host, view) == reason


def test_every_filter_has_cases() -> None:
    named = {name for name, *_ in CASES} | {"SameHostFilter", "DifferentHostFilter"}
    assert named == registry.FILTERS.keys()


def test_every_filter_that_refuses_has_a_reason_in_the_cases() -> None:
    elsewhere = {"AllHostsFilter", "IsolatedHostsFilter", "SameHostFilter", "DifferentHostFilter"}
    assert {name for name, *_, reason in CASES if reason} | elsewhere == registry.FILTERS.keys()


@pytest.mark.parametrize(
    ("name", "hints", "reason"),
    [
        ("SameHostFilter", {}, None),
        ("SameHostFilter", {"same_host": "there"}, None),
        ("SameHostFilter", {"same_host": ["elsewhere", "there"]}, None),
        ("SameHostFilter", {"same_host": ["elsewhere"]}, "runs none of the instances to be with"),
        ("SameHostFilter", {"same_host": ["unknown"]}, "runs none of the instances to be with"),
        ("DifferentHostFilter", {}, None),
        ("DifferentHostFilter", {"different_host": ["elsewhere"]}, None),
        ("DifferentHostFilter", {"different_host": "there"}, "runs an instance to keep away from"),
    ],
)
def test_hints_about_instances(name: str, hints: dict[str, Any], reason: str | None) -> None:
    homes = {"there": {"k1"}, "elsewhere": {"k2"}}
    view = request_view(replace(SPEC, scheduler_hints=hints), SchedulerSection(), homes=homes)
    assert registry.FILTERS[name](FilterSection()).reject(HOST, view) == reason


@pytest.mark.parametrize(
    ("only", "host", "image_id", "volume_backed", "reason"),
    [
        (True, "iso", "special", False, None),
        (True, "h1", "special", False, "is no isolated host"),
        (True, "iso", "img", False, "is kept for isolated images"),
        (True, "h1", "img", False, None),
        (True, "iso", "", True, "is kept for isolated images"),
        (False, "iso", "img", False, None),
        (False, "h1", "special", False, "is no isolated host"),
        (False, "iso", "", True, None),
    ],
)
def test_isolated_hosts_and_images(
    only: bool, host: str, image_id: str, volume_backed: bool, reason: str | None
) -> None:
    config = FilterSection(
        isolated_hosts=("iso",), isolated_images=("special",), restrict_isolated_hosts_to_isolated_images=only
    )
    made = registry.FILTERS["IsolatedHostsFilter"](config)
    view = request(image_id=image_id, volume_backed=volume_backed)
    assert made.reject(replace(HOST, host=host), view) == reason


def test_image_isolation_looks_at_its_namespace_only() -> None:
    config = FilterSection(aggregate_image_properties_isolation_namespace="iso")
    made = registry.FILTERS["AggregateImagePropertiesIsolation"](config)
    host = in_aggregates({"iso.zone": "a", "other": "b"})
    assert made.reject(host, image(**{"iso.zone": "a", "other": "c"})) is None
    assert made.reject(host, image(**{"iso.zone": "b"})) == "is kept for images with another iso.zone"


def test_a_default_architecture_is_requested_of_images_without_one() -> None:
    made = registry.FILTERS["ImagePropertiesFilter"](FilterSection(image_properties_default_architecture="aarch64"))
    assert made.reject(HOST, image()) == "does not run aarch64"
    assert made.reject(HOST, image(hw_architecture="x86_64")) is None


@pytest.mark.parametrize(
    ("value", "wanted", "result"),
    [
        ("4", "4", True), ("4", "5", False), ("4", "= 4", True), ("5", "= 4", True), ("3", "= 4", False),
        ("4", "== 4.0", True), ("4", "!= 4", False), ("4", "<= 4", True), ("x", ">= 4", False), ("4", ">=", False),
        ("abc", "s== abc", True), ("abc", "s!= abc", False), ("b", "s> a", True), ("a", "s>= b", False),
        ("a", "s< b", True), ("b", "s<= a", False), ("12311321", "<in> 11", True), ("123", "<in> 9", False),
        ("a", "<or> a <or> b", True), ("c", "<or> a <or> b", False), ("aes mmx avx", "<all-in> aes mmx", True),
        ("aes mmx", "<all-in> aes avx", False), ("a b", "a b", True), ("", "", True), ("x", "", False),
    ],
)  # fmt: skip
def test_the_language_of_extra_specs(value: str, wanted: str, result: bool) -> None:
    assert matches(value, wanted) is result


# -- what is requested of every host ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("headroom", "reason"),
    [
        ({}, "has no VCPU"),
        ({"VCPU": Inventory(1)}, "lacks 2 VCPU"),
        ({"VCPU": Inventory(4, used=3)}, "lacks 2 VCPU"),
        ({"VCPU": Inventory(4, max_unit=1)}, "does not give out 2 VCPU"),
        ({"VCPU": Inventory(4, step_size=4)}, "does not give out 2 VCPU"),
        ({"VCPU": Inventory(1, allocation_ratio=2.0)}, None),
    ],
)
def test_headroom(headroom: dict[str, Inventory], reason: str | None) -> None:
    host = replace(HOST, headrooms={"MEMORY_MB": Inventory(9999), "DISK_GB": Inventory(99), **headroom})
    assert requirements.Headroom().reject(host, request()) == reason


@pytest.mark.parametrize(
    ("abilities", "needs", "reason"),
    [
        (("moves", "volumes"), ("moves",), None),
        (("volumes",), (), None),
        (("volumes",), ("moves", "volumes"), "cannot move its guests"),
        ((), ("volumes",), "cannot attach volumes to its guests"),
        (None, ("moves",), None),
    ],
)
def test_abilities(abilities: tuple[str, ...] | None, needs: tuple[str, ...], reason: str | None) -> None:
    assert requirements.Able().reject(replace(HOST, abilities=abilities), request(needs=needs)) == reason


def test_traits_of_flavor_and_image() -> None:
    requested = request(
        extra={"trait:HW_CPU_X86_AVX2": "required", "trait:CUSTOM_SLOW": "forbidden", "trait:CUSTOM_X": "required"},
        image_properties={"trait:CUSTOM_Y": "required"},
    )
    assert requested.required == {"HW_CPU_X86_AVX2", "CUSTOM_X", "CUSTOM_Y"}
    has = replace(HOST, traits=requested.required)
    reject = requirements.Traits().reject
    assert reject(has, requested) is None
    assert reject(HOST, requested) == "lacks trait CUSTOM_X"
    assert reject(replace(HOST, traits=requested.required | {"CUSTOM_SLOW"}), requested) == "has trait CUSTOM_SLOW"
    assert reject(replace(HOST, traits=frozenset({"COMPUTE_STATUS_DISABLED"})), request()) == "is disabled"


@pytest.mark.parametrize(
    ("extra", "resources"),
    [
        ({}, {"VCPU": 2, "MEMORY_MB": 1024, "DISK_GB": 12}),
        ({"resources:VCPU": "0"}, {"MEMORY_MB": 1024, "DISK_GB": 12}),
        ({"resources:CUSTOM_GPU": "1", "resources1:CUSTOM_GPU": "2"},
         {"VCPU": 2, "MEMORY_MB": 1024, "DISK_GB": 12, "CUSTOM_GPU": 3}),
        ({"hw:cpu_policy": "dedicated"}, {"PCPU": 2, "MEMORY_MB": 1024, "DISK_GB": 12}),
    ],
)  # fmt: skip
def test_what_a_flavor_takes(extra: dict[str, str], resources: dict[str, int]) -> None:
    assert request(extra=extra).resources == resources


def test_a_volume_backed_server_takes_its_other_disks_only() -> None:
    assert request(volume_backed=True).resources["DISK_GB"] == 2


def test_amounts_that_are_none_are_invalid() -> None:
    with pytest.raises(Invalid):
        request(extra={"resources:VCPU": "many"})
