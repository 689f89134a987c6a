"""What users type of the network and volume companions' own: QoS policies, trunks, encryption of volume types."""

from __future__ import annotations

from tests.clients.stage import Step, gone, lists, says, server, shown, step

_VM = "server create --flavor m1.nano --image tiny"
_SUBPORT = "port={name}-%s,segmentation-type=vlan,segmentation-id=%d"

QOS: tuple[Step, ...] = (
    step("network qos policy create {name} --share --description d", says(name="{name}", shared=True, rules=[])),
    step("network qos rule create {name} --type bandwidth-limit --max-kbps 3000 --max-burst-kbits 300 --ingress",
         says(max_kbps=3000, max_burst_kbps=300, direction="ingress")),
    step("network qos rule create {name} --type dscp-marking --dscp-mark 26", says(dscp_mark=26), marking="id"),
    step("network qos rule set {name} {marking} --dscp-mark 8",
         shown("network qos rule show {name} {marking}", dscp_mark=8)),
    step("network qos rule delete {name} {marking}", gone("network qos rule show {name} {marking}")),
    step("network qos rule list {name}", lists(Type="bandwidth_limit", Max_Kbps=3000)),
    step("network qos rule type list", lists(Type="minimum_packet_rate")),
    step("network qos rule type list --all-supported", lists(Type="dscp_marking")),
    step("network qos rule type show dscp_marking", says(rule_type_name="dscp_marking")),
    step("network qos policy set {name} --description e", shown("network qos policy show {name}", description="e")),
    step("network qos policy list", lists(Name="{name}", Shared=True)),
    step("port create --network private --qos-policy {name} {name}-port"),
    step("network create --qos-policy {name} {name}-net"),
    step("network qos policy delete {name}", refused="failed to delete"),
    step(f"{_VM} --port {{name}}-port --wait {{vm}}", server("ACTIVE")),
    step("network qos rule create {name} --type minimum-bandwidth --min-kbps 500 --egress", says(min_kbps=500)),
    step("network qos rule create {name} --type minimum-packet-rate --min-kpps 5 --any", says(direction="any")),
    step("port create --network private --qos-policy {name} {name}-more",
         says(resource_request=lambda request: len(request["request_groups"]) == 2)),
    step(f"{_VM} --port {{name}}-more {{vm}}-2", refused="Creating servers with ports having resource requests"),
    step(f"{_VM} --network {{name}}-net {{vm}}-2", refused="requires a subnet"),
    step("subnet create --network {name}-net --subnet-range 10.97.0.0/24 {name}-subnet"),
    step(f"{_VM} --network {{name}}-net {{vm}}-2", refused="Using networks with QoS policy is not supported"),
    step("server add port {vm} {name}-more", refused="Attaching interfaces with QoS policy is not supported"),
    step("server add network {vm} {name}-net", refused="Using networks with QoS policy is not supported"),
    step("server delete --wait {vm}"),
    step("port unset {name}-port --qos-policy", shown("port show {name}-port", qos_policy_id=None)),
    step("network set --no-qos-policy {name}-net", shown("network show {name}-net", qos_policy_id=None)),
    step("port delete {name}-port {name}-more"),
    step("network qos policy delete {name}", gone("network qos policy show {name}")),
    step("network delete {name}-net"),
)  # fmt: skip

TRUNKS: tuple[Step, ...] = (
    step("port create --network private {name}-parent"),
    step("port create --network private {name}-one"),
    step("port create --network private {name}-two"),
    step("network trunk create --parent-port {name}-parent --subport " + _SUBPORT % ("one", 100) + " {name}",
         says(status="DOWN", sub_ports=lambda found: found[0]["segmentation_id"] == 100)),
    step("network trunk set {name} --description d --subport " + _SUBPORT % ("two", 101),
         shown("network trunk show {name}", description="d")),
    step("network subport list --trunk {name}", lists(Segmentation_ID=100), lists(Segmentation_ID=101)),
    step("network trunk list --long", lists(Name="{name}", Status="DOWN")),
    step("port show {name}-parent", says(trunk_details=lambda found: len(found["sub_ports"]) == 2)),
    step("port delete {name}-one", refused="failed to delete"),
    step("network trunk unset {name} --subport {name}-two", shown("network trunk show {name}",
         sub_ports=lambda found: [one["segmentation_id"] for one in found] == [100])),
    step("network trunk set {name} --disable"),
    step("network trunk delete {name}", refused="failed to delete"),
    step("network trunk set {name} --enable"),
    step(f"{_VM} --port {{name}}-parent --wait {{vm}}", server("ACTIVE")),
    step("network trunk show {name}", says(status="DEGRADED")),
    step("network trunk delete {name}", refused="failed to delete"),
    step("server delete --wait {vm}"),
    step("network trunk show {name}", says(status="DOWN")),
    step("network trunk delete {name}", gone("network trunk show {name}")),
    step("port delete {name}-parent {name}-one {name}-two"),
)  # fmt: skip

_LUKS = "--encryption-provider luks --encryption-cipher aes-xts-plain64 --encryption-key-size 256"

ENCRYPTION: tuple[Step, ...] = (
    step(f"volume type create {{name}} {_LUKS} --encryption-control-location front-end",
         says(encryption=lambda found: found["provider"] == "luks")),
    step("volume type list --encryption-type", lists(Name="{name}", Encryption=lambda found: found["key_size"] == 256)),
    step("volume type set {name} --encryption-key-size 128", shown(
        "volume type show {name} --encryption-type", encryption=lambda found: found["key_size"] == 128)),
    step("volume create --size 1 --type {name} {name}-secret", says(encrypted=True)),
    step("volume type set {name} --encryption-key-size 256", refused="failed"),
    step("volume delete {name}-secret", gone("volume show {name}-secret")),
    step("volume type unset {name} --encryption-type"),
    step("volume create --size 1 --type {name} {name}-clear", says(encrypted=False)),
    step("volume type set {name} --encryption-provider luks", refused="failed"),
    step("volume type delete {name}", refused="failed to delete"),
    step("volume delete {name}-clear", gone("volume show {name}-clear")),
    step("volume type delete {name}", gone("volume type show {name}")),
)  # fmt: skip
