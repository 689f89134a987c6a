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


CASES: list[tuple[str, HostState, RequestView, bool]] = [
    ("AllHostsFilter", replace(HOST, up=False), request(), True),
    ("ComputeFilter", HOST, request(), True),
    ("ComputeFilter", replace(HOST, up=False), request(), False),
    ("ComputeFilter", replace(HOST, disabled=True), request(), False),
    ("AvailabilityZoneFilter", HOST, request(), True),
    ("AvailabilityZoneFilter", HOST, request(availability_zone="nova"), True),
    ("AvailabilityZoneFilter", HOST, request(availability_zone="east,nova"), True),
    ("AvailabilityZoneFilter", HOST, request(availability_zone="east"), False),
    # capabilities
    ("ComputeCapabilitiesFilter", HOST, request(), True),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"hw:cpu_policy": "shared"}), True),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:hypervisor_type": "QEMU"}), True),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:hypervisor_type": "s== Xen"}), False),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:hypervisor_version": ">= 8002000"}), True),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:free_ram_mb": ">= 4097"}), False),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:free_ram_mb": "= 4096"}), True),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:cpu_info:features": "<in> avx2"}), True),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:cpu_info:features": "<in> sse9"}), False),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:cpu_info:topology:cores": "4"}), True),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:cpu_info:topology:dies": "4"}), False),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"capabilities:rack": "<or> r1 <or> r7"}), True),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"rack": "r7"}), True),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"rack": "r8"}), False),
    ("ComputeCapabilitiesFilter", HOST, request(extra={"no_such_thing": "1"}), False),
    # image properties
    ("ImagePropertiesFilter", HOST, image(), True),
    ("ImagePropertiesFilter", HOST, image(hw_architecture="x86_64"), True),
    ("ImagePropertiesFilter", HOST, image(architecture="amd64"), True),
    ("ImagePropertiesFilter", HOST, image(hw_architecture="aarch64"), False),
    ("ImagePropertiesFilter", HOST, image(hw_architecture="x86_64", img_hv_type="qemu"), False),
    ("ImagePropertiesFilter", HOST, image(hw_architecture="i386", img_hv_type="qemu", hw_vm_mode="hvm"), True),
    ("ImagePropertiesFilter", HOST, image(vm_mode="pv"), False),
    ("ImagePropertiesFilter", HOST, image(hypervisor_type="KVM"), True),
    ("ImagePropertiesFilter", HOST, image(img_hv_requested_version=">=8.0,<9"), True),
    ("ImagePropertiesFilter", HOST, image(img_hv_requested_version=">=8.2.4"), False),
    ("ImagePropertiesFilter", HOST, image(img_hv_requested_version="about 8"), False),
    ("ImagePropertiesFilter", replace(HOST, supported_instances=()), image(), True),
    ("ImagePropertiesFilter", replace(HOST, supported_instances=()), image(hw_vm_mode="hvm"), False),
    # groups
    ("ServerGroupAffinityFilter", HOST, request(), True),
    ("ServerGroupAffinityFilter", HOST, group("affinity"), True),
    ("ServerGroupAffinityFilter", HOST, group("affinity", h1=1), True),
    ("ServerGroupAffinityFilter", HOST, group("affinity", h2=1), False),
    ("ServerGroupAffinityFilter", HOST, group("soft-affinity", h2=1), True),
    ("ServerGroupAntiAffinityFilter", HOST, group("anti-affinity", h2=1), True),
    ("ServerGroupAntiAffinityFilter", HOST, group("anti-affinity", h1=1), False),
    ("ServerGroupAntiAffinityFilter", HOST, group("anti-affinity", 2, h1=1), True),
    ("ServerGroupAntiAffinityFilter", HOST, group("anti-affinity", 2, h1=2), False),
    ("ServerGroupAntiAffinityFilter", HOST, group("affinity", h2=1), True),
    # hints
    ("SimpleCIDRAffinityFilter", HOST, request(), True),
    ("SimpleCIDRAffinityFilter", HOST, request(hints={"build_near_host_ip": "10.1.2.200"}), True),
    ("SimpleCIDRAffinityFilter", HOST, request(hints={"build_near_host_ip": "10.1.2.200", "cidr": "/30"}), False),
    ("SimpleCIDRAffinityFilter", HOST, request(hints={"build_near_host_ip": "nowhere"}), False),
    ("JsonFilter", HOST, request(), True),
    ("JsonFilter", HOST, request(hints={"query": '[">=", "$free_ram_mb", 4096]'}), True),
    ("JsonFilter", HOST, request(hints={"query": '["and", [">", "$vcpus_total", 4], ["<", "$vcpus_used", 2]]'}), False),
    ("JsonFilter", HOST, request(hints={"query": '["or", ["=", "$host", "h2"], ["not", ["=", 1, 2]]]'}), True),
    ("JsonFilter", HOST, request(hints={"query": '["in", "$hypervisor_type", "Xen", "QEMU"]'}), True),
    ("JsonFilter", HOST, request(hints={"query": '["?", 1]'}), False),
    ("JsonFilter", HOST, request(hints={"query": "no json"}), False),
    # load
    ("NumInstancesFilter", replace(HOST, num_instances=49), request(), True),
    ("NumInstancesFilter", replace(HOST, num_instances=50), request(), False),
    ("AggregateNumInstancesFilter", in_aggregates({"max_instances_per_host": "5"}), request(), False),
    ("AggregateNumInstancesFilter", in_aggregates({"max_instances_per_host": "x"}), request(), True),
    ("AggregateNumInstancesFilter",
     in_aggregates({"max_instances_per_host": "9"}, {"max_instances_per_host": "4"}), request(), False),
    ("IoOpsFilter", replace(HOST, num_io_ops=7), request(), True),
    ("IoOpsFilter", replace(HOST, num_io_ops=8), request(), False),
    ("AggregateIoOpsFilter", in_aggregates({"max_io_ops_per_host": "3"}), request(), False),
    ("AggregateIoOpsFilter", in_aggregates({}), request(), True),
    # aggregates
    ("AggregateInstanceExtraSpecsFilter", HOST, request(), True),
    ("AggregateInstanceExtraSpecsFilter", HOST, request(extra={"aggregate_instance_extra_specs:ssd": "true"}), False),
    ("AggregateInstanceExtraSpecsFilter", in_aggregates({"ssd": "true"}),
     request(extra={"aggregate_instance_extra_specs:ssd": "true"}), True),
    ("AggregateInstanceExtraSpecsFilter", in_aggregates({"ssd": "no,true"}), request(extra={"ssd": "true"}), True),
    ("AggregateInstanceExtraSpecsFilter", in_aggregates({"ssd": "no"}), request(extra={"ssd": "true"}), False),
    ("AggregateInstanceExtraSpecsFilter", in_aggregates({}), request(extra={"hw:numa_nodes": "1"}), True),
    ("AggregateMultiTenancyIsolation", HOST, request(), True),
    ("AggregateMultiTenancyIsolation", in_aggregates({"filter_tenant_id": "p2"}), request(), False),
    ("AggregateMultiTenancyIsolation", in_aggregates({"filter_tenant_id": "p2, p1"}), request(), True),
    ("AggregateMultiTenancyIsolation", in_aggregates({"filter_tenant_id": "p2", "filter_tenant_id2": "p1"}), request(),
     True),
    ("AggregateTypeAffinityFilter", HOST, request(), True),
    ("AggregateTypeAffinityFilter", in_aggregates({"instance_type": "m1,m2"}), request(), True),
    ("AggregateTypeAffinityFilter", in_aggregates({"instance_type": "m2"}), request(), False),
    ("AggregateImagePropertiesIsolation", in_aggregates({"os_distro": "win"}), image(), True),
    ("AggregateImagePropertiesIsolation", in_aggregates({"os_distro": "win"}), image(os_distro="win"), True),
    ("AggregateImagePropertiesIsolation", in_aggregates({"os_distro": "win"}), image(os_distro="bsd"), False),
    ("IsolatedHostsFilter", HOST, request(), True),
    ("NUMATopologyFilter", HOST, request(), True),
    ("NUMATopologyFilter", HOST, request(extra={"hw:numa_nodes": "2"}), False),
    ("NUMATopologyFilter", HOST, image(hw_numa_nodes="2"), False),
    ("PciPassthroughFilter", HOST, request(extra={"pci_passthrough:alias": "gpu:1"}), False),
    ("PciPassthroughFilter", HOST, request(), True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "host", "requested", "passes"), CASES)
def test_filters(name: str, host: HostState, requested: RequestView, passes: bool) -> None:
    reason = registry.FILTERS[name](FilterSection()).reject(host, requested)
    assert (reason is None) == passes, reason
    assert reason != ""


def test_every_filter_has_cases() -> None:
    told = {name for name, *_ in CASES} | {"SameHostFilter", "DifferentHostFilter"}
    assert told == registry.FILTERS.keys()


def test_hints_about_instances() -> None:
    homes = {"there": {"k1"}, "elsewhere": {"k2"}}

    def passes(name: str, **hints: Any) -> bool:
        requested = request_view(replace(SPEC, scheduler_hints=hints), SchedulerSection(), homes=homes)
        return registry.FILTERS[name](FilterSection()).reject(HOST, requested) is None

    assert passes("SameHostFilter")
    assert passes("SameHostFilter", same_host="there")
    assert passes("SameHostFilter", same_host=["elsewhere", "there"])
    assert not passes("SameHostFilter", same_host=["elsewhere"])
    assert not passes("SameHostFilter", same_host=["nobody"])
    assert passes("DifferentHostFilter")
    assert passes("DifferentHostFilter", different_host=["elsewhere"])
    assert not passes("DifferentHostFilter", different_host="there")


@pytest.mark.parametrize(
    ("only", "host", "image_id", "volume_backed", "passes"),
    [
        (True, "iso", "special", False, True),
        (True, "h1", "special", False, False),
        (True, "iso", "img", False, False),
        (True, "h1", "img", False, True),
        (True, "iso", "", True, False),
        (False, "iso", "img", False, True),
        (False, "h1", "special", False, False),
        (False, "iso", "", True, True),
    ],
)
def test_isolated_hosts_and_images(only: bool, host: str, image_id: str, volume_backed: bool, passes: bool) -> None:
    config = FilterSection(
        isolated_hosts=("iso",), isolated_images=("special",), restrict_isolated_hosts_to_isolated_images=only
    )
    made = registry.FILTERS["IsolatedHostsFilter"](config)
    requested = request(image_id=image_id, volume_backed=volume_backed)
    assert (made.reject(replace(HOST, host=host), requested) is None) == passes


def test_image_isolation_looks_at_its_namespace_only() -> None:
    config = FilterSection(aggregate_image_properties_isolation_namespace="iso")
    made = registry.FILTERS["AggregateImagePropertiesIsolation"](config)
    host = in_aggregates({"iso.zone": "a", "other": "b"})
    assert made.reject(host, image(**{"iso.zone": "a", "other": "c"})) is None
    assert made.reject(host, image(**{"iso.zone": "b"})) is not None


def test_a_default_architecture_is_requested_of_images_without_one() -> None:
    made = registry.FILTERS["ImagePropertiesFilter"](FilterSection(image_properties_default_architecture="aarch64"))
    assert made.reject(HOST, image()) is not None
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


def test_traits_of_flavor_and_image() -> None:
    requested = request(
        extra={"trait:HW_CPU_X86_AVX2": "required", "trait:CUSTOM_SLOW": "forbidden", "trait1:CUSTOM_X": "required"},
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
