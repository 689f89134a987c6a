"""What users and operators type into the openstack client, noun by noun."""

from __future__ import annotations

from tests.clients.companion_commands import ENCRYPTION, QOS, TRUNKS
from tests.clients.stage import Check, Step, gone, lacks, listed, lists, says, server, shown, step, tells, unlisted

_MAKE = "server create --flavor m1.nano --image tiny --network private {vm}"

FLAVORS = (
    step("flavor create --ram 64 --disk 1 --vcpus 1 --swap 8 --property a=b --private --description one {name}",
         says(ram=64, vcpus=1, swap=8, os_flavor_access_is_public=False, description="one", properties={"a": "b"})),
    step("flavor set {name} --property c=d --description two --project admin",
         shown("flavor show {name}", description="two", properties={"a": "b", "c": "d"},
               access_project_ids=lambda ids: len(ids) == 1)),
    step("flavor unset {name} --property a --project admin",
         shown("flavor show {name}", properties={"c": "d"}, access_project_ids=[])),
    step("flavor set --no-property {name}", shown("flavor show {name}", properties={})),
    step("flavor list --all --long --min-ram 64", lists(RAM=64, Properties={})),
    step("flavor list --private", lists(Is_Public=False)),
    step("flavor show {name}", says(disk=1)),
    step("flavor delete {name}", gone("flavor show {name}")),
)  # fmt: skip

KEYPAIRS = (
    step("keypair create {name} --type ssh --private-key {directory}/key", says(name="{name}", type="ssh")),
    step("keypair show {name}", says(type="ssh")),
    step("keypair show --public-key {name}", tells("ssh-")),
    step("keypair list", lists(Type="ssh")),
    step("keypair delete {name}", gone("keypair show {name}")),
    step("keypair create --user demo --public-key {public_key} {name}", listed("keypair list --user demo", Type="ssh")),
    step("keypair delete --user demo {name}", unlisted("keypair list --user demo", Type="ssh")),
)

AGGREGATES = (
    step("aggregate create --zone {name}-zone --property a=b {name}",
         says(availability_zone="{name}-zone", properties=lambda found: found["a"] == "b")),
    step("aggregate add host {name} cell2-host2", says(hosts=["cell2-host2"])),
    step("availability zone list --compute --long", lists(Host_Name="cell2-host2")),
    step("aggregate list --long --host cell2-host2", lists(Properties=lambda found: found.get("a") == "b")),
    step("aggregate set {name} --property c=d --zone {name}-zone2",
         shown("aggregate show {name}", availability_zone="{name}-zone2", properties={"a": "b", "c": "d"})),
    step("aggregate unset --property a {name}", shown("aggregate show {name}", properties={"c": "d"})),
    step("aggregate cache image {name} tiny"),
    step("aggregate show {name}", says(hosts=["cell2-host2"])),
    step("aggregate remove host {name} cell2-host2", says(hosts=[])),
    step("aggregate delete {name}", gone("aggregate show {name}")),
)  # fmt: skip

OPERATORS = (
    step("hypervisor list --long", lists(Hypervisor_Hostname="cell1-host1", State="up"), version="2.87"),
    step("hypervisor list --matching cell1", lists(Hypervisor_Hostname="cell1-host2"),
         lacks(Hypervisor_Hostname="cell2-host1")),
    step("hypervisor show cell1-host1", says(state="up", status="enabled", service_host="cell1-host1")),
    step("hypervisor stats show", says(count=4), version="2.87"),
    step("compute service list --long --service nova-compute", lists(Host="cell1-host2", Status="enabled")),
    step("compute service set --disable --disable-reason because cell1-host2 nova-compute",
         listed("compute service list --long", Host="cell1-host2", Status="disabled", Disabled_Reason="because")),
    step("compute service set --enable cell1-host2 nova-compute",
         listed("compute service list --long", Host="cell1-host2", Status="enabled")),
    step("compute service set --down cell1-host2 nova-compute",
         listed("compute service list --long", Host="cell1-host2", State="down", Forced_Down=True)),
    step("compute service set --up cell1-host2 nova-compute",
         listed("compute service list --long", Host="cell1-host2", State="up", Forced_Down=False)),
    step("compute service delete {name}", refused="Invalid uuid"),
    step("host list", lists(Host_Name="cell1-host1", Service="compute")),
    step("host show cell1-host1", lists(Project="(total)")),
    step("host set --disable cell1-host2", listed("compute service list", Host="cell1-host2", Status="disabled")),
    step("host set --enable cell1-host2", listed("compute service list", Host="cell1-host2", Status="enabled")),
    step("compute agent list", refused="410"),
    step("compute agent create linux x86 1 http://x 0123456789abcdef0123456789abcdef kvm", refused="410"),
    step("compute agent set 1 --agent-version 2", refused="410"),
    step("compute agent delete 1", refused="1 of 1"),
)  # fmt: skip

LIMITS = (
    step("quota show", lists(Resource="instances")),
    step("quota set --instances 77 --cores 99 admin", listed("quota show", Resource="instances", Limit=77)),
    step("quota show --usage --compute", lists(Resource="cores", Limit=99)),
    step("quota list --compute", lists(Instances=77)),
    step("quota delete --compute admin", listed("quota show", Resource="instances", Limit=lambda limit: limit != 77)),
    step("quota show --default", lists(Resource="instances")),
    step("limits show --absolute", lists(Name="total_instances_used"), version="2.74"),
    step("limits show --rate", version="2.74"),
    step("limits show --absolute", refused="reserved"),  # what it asks with is refused from 2.75 on, as published
    step("usage list"),
    step("usage show", tells("Servers")),
    step("availability zone list", lists(Zone_Name="nova", Zone_Status="available")),
)

GROUPS = (
    step("server group create --policy anti-affinity --rule max_server_per_host=2 {name}",
         says(policy="anti-affinity", rules={"max_server_per_host": 2})),
    step("server group list --all-projects --long", lists(Policy="anti-affinity")),
    step("server group show {name}", says(members=[])),
    step("server create --flavor m1.nano --image tiny --no-network --server-group {name} {vm}", server("ACTIVE")),
    step("server group show {name}", says(members=lambda found: len(found) == 1)),
    step("server delete {vm}", gone("server show {vm}")),
    step("server group delete {name}", gone("server group show {name}")),
)  # fmt: skip

POWER = (
    step(_MAKE + " --property a=b --tag t --description words --hostname one --config-drive True", server("ACTIVE")),
    step("server list --long", lists(Status="ACTIVE", Flavor="m1.nano")),
    step("server list --tags t", lists(Status="ACTIVE")),
    step("server list --not-tags t --all-projects", lacks(ID="{id}")),
    step("server show {vm}", says(properties={"a": "b"}, tags=["t"], description="words",
                                  OS_EXT_SRV_ATTR_hostname="one"), id="id"),
    step("server pause {vm}", server("PAUSED")),
    step("server unpause {vm}", server("ACTIVE")),
    step("server suspend {vm}", server("SUSPENDED")),
    step("server resume {vm}", server("ACTIVE")),
    step("server stop {vm}", server("SHUTOFF")),
    step("server start {vm}", server("ACTIVE")),
    step("server reboot {vm}", server("ACTIVE")),
    step("server reboot --hard {vm}", server("ACTIVE")),
    step("server lock --reason hands-off {vm}", server(locked=True, locked_reason="hands-off")),
    step("server list --locked", lists(Status="ACTIVE")),
    step("server unlock {vm}", server(locked=False)),
    step("server rescue {vm}", server("RESCUE")),
    step("server unrescue {vm}", server("ACTIVE")),
    step("server dump create {vm}", listed("server event list {vm}", Action="trigger_crash_dump")),
    step("console log show {vm}", tells("login:")),
    step("console log show --lines 1 {vm}"),
    step("server show --diagnostics {vm}", says(state="running")),
    step("server show --topology {vm}", tells("nodes")),
    step("server set --property c=d --tag u --description other --hostname two --name {vm} {vm}",
         server(properties={"a": "b", "c": "d"}, tags=["t", "u"], description="other", OS_EXT_SRV_ATTR_hostname="two")),
    step("server set --password secret {vm}", listed("server event list {vm}", Action="changePassword")),
    step("server set --auto-approve --state error {vm}", server("ERROR")),
    step("server set --auto-approve --state active {vm}", server("ACTIVE")),
    step("server unset --property a --tag t --description {vm}",
         server(properties={"c": "d"}, tags=["u"], description=lambda text: not text)),
    step("server unset --all-tags {vm}", server(tags=[])),
    step("server event list --long {vm}", lists(Action="create"), event="Request ID"),
    step("server event show {vm} {event}", says(request_id=lambda text: text.startswith("req-"))),
    step("server rebuild --image tiny --property e=f --description again {vm}",
         server("ACTIVE", properties={"e": "f"}, description="again")),
    step("server restore {vm}", refused="409"),
    step("server delete --force {vm}", gone("server show {vm}")),
)  # fmt: skip

IMAGES = (
    step(_MAKE, server("ACTIVE")),
    step("server image create --name {name}-image --property a=b {vm}", server("ACTIVE")),
    step("image show {name}-image", says(status="active")),
    step("server backup create --name {name}-one --type daily --rotate 1 {vm}", server("ACTIVE"),
         listed("image list", Name="{name}-one", Status="active")),
    step("server backup create --name {name}-two --type daily --rotate 1 {vm}", server("ACTIVE"),
         unlisted("image list", Name="{name}-one")),
    step("server shelve {vm}", server(status=lambda text: text.startswith("SHELVED"))),
    step("server shelve --offload {vm}", server("SHELVED_OFFLOADED")),
    step("server unshelve {vm}", server("ACTIVE")),
    step("server delete {vm}", gone("server show {vm}")),
)  # fmt: skip

MOVES = (
    step(_MAKE, server("ACTIVE"), shown("server show {vm}"), ),
    step("server show {vm}", host="OS-EXT-SRV-ATTR:host", id="id"),
    step("server resize --flavor m1.micro {vm}", server("VERIFY_RESIZE")),
    step("server resize confirm {vm}", server("ACTIVE", flavor=lambda found: "m1.micro" in str(found))),
    step("server resize --flavor m1.nano {vm}", server("VERIFY_RESIZE")),
    step("server resize revert {vm}", server("ACTIVE", flavor=lambda found: "m1.micro" in str(found))),
    step("server migrate {vm}", server("VERIFY_RESIZE")),
    step("server migrate confirm {vm}", server("ACTIVE")),
    step("server migrate {vm}", server("VERIFY_RESIZE")),
    step("server migrate revert {vm}", server("ACTIVE")),
    step("server migrate {vm}", server("VERIFY_RESIZE")),
    step("server migration confirm {vm}", server("ACTIVE")),
    step("server migrate {vm}", server("VERIFY_RESIZE")),
    step("server migration revert {vm}", server("ACTIVE")),
    step("server migration list --server {vm}", lists(Type="resize", Status="confirmed"),
         lists(Type="migration", Status="reverted")),
    step("server delete {vm}", gone("server show {vm}")),
)  # fmt: skip

_PIN = "server create --flavor m1.nano --image tiny --network private --host {host} {vm}"


def _slow_on(host: str) -> Check:
    return server("ACTIVE", name="slow-{vm}", OS_EXT_SRV_ATTR_host=host)


# The installed client shows a migration by number with both ids swapped in the path: only by uuid it finds one.
LIVE = (
    step(_PIN.format(host="cell1-host1", vm="slow-{vm}"), _slow_on("cell1-host1")),
    step("server migrate --live-migration --host cell1-host2 slow-{vm}", _slow_on("cell1-host2")),
    step("server migration list --server slow-{vm} --type live-migration", lists(Status="completed")),
    step("server migrate --live-migration --host cell1-host1 slow-{vm}",
         listed("server migration list --server slow-{vm}", Status="running")),
    step("server migration list --server slow-{vm} --status running", lists(Type="live-migration"), migration="Id",
         uuid="UUID"),
    step("server migration show slow-{vm} {migration}", refused="No ServerMigration found"),
    step("server migration show slow-{vm} {uuid}", says(Source_Compute="cell1-host2", Status="running")),
    step("server migration abort slow-{vm} {migration}", _slow_on("cell1-host2"),
         listed("server migration list --server slow-{vm}", Status="cancelled")),
    step("server migrate --live-migration --host cell1-host1 slow-{vm}",
         listed("server migration list --server slow-{vm}", Status="running")),
    step("server migration list --server slow-{vm} --status running", migration="Id"),
    step("server migration force complete slow-{vm} {migration}",
         _slow_on("cell1-host1")),
    step("server migration list --host cell1-host1", lists(Status="completed", Type="live-migration")),
    step("server delete slow-{vm}", gone("server show slow-{vm}")),
)  # fmt: skip

EVACUATION = (
    step(_PIN.format(host="cell2-host1", vm="{vm}"), server("ACTIVE")),
    step("compute service set --down cell2-host1 nova-compute"),
    step("server evacuate {vm}", server("ACTIVE", OS_EXT_SRV_ATTR_host=lambda host: host != "cell2-host1")),
    step("server migration list --server {vm}", lists(Type="evacuation")),
    step(
        "compute service set --up cell2-host1 nova-compute",
        listed("compute service list", Host="cell2-host1", State="up"),
    ),
    step("server delete {vm}", gone("server show {vm}")),
)

VOLUMES = (
    step(_MAKE, server("ACTIVE")),
    step("volume create --size 1 {name}", shown("volume show {name}", status="available")),
    step("server add volume --tag t --enable-delete-on-termination {vm} {name}",
         says(Tag="t", Delete_On_Termination=True), shown("volume show {name}", status="in-use")),
    step("server volume list {vm}", lists(Tag="t")),
    step("server volume set --preserve-on-termination {vm} {name}",
         listed("server volume list {vm}", Delete_On_Termination_=False)),
    step("server volume update --delete-on-termination {vm} {name}",
         listed("server volume list {vm}", Delete_On_Termination_=True)),
    step("server remove volume {vm} {name}", shown("volume show {name}", status="available")),
    step("server volume list {vm}", lambda stage: stage.printed == []),
    step("server delete {vm}", gone("server show {vm}")),
    step("server create --flavor m1.nano --image tiny --boot-from-volume 1 --no-network {vm}", server("ACTIVE")),
    step("server show {vm}", says(image=lambda found: "booted from volume" in str(found).lower(),
                                  volumes_attached=lambda found: len(found) == 1)),
    step("server delete {vm}", gone("server show {vm}")),
    step("volume delete {name}"),
)  # fmt: skip

NETWORKS = (
    step(_MAKE, server("ACTIVE", addresses=lambda found: len(found.get("private", ())) == 1)),
    step("server add network {vm} private", server(addresses=lambda found: len(found.get("private", ())) == 2)),
    step("server remove network {vm} private", server(addresses=lambda found: not found)),
    step("port create --network private {name}"),
    step("server add port --tag t {vm} {name}", server(addresses=lambda found: len(found.get("private", ())) == 1)),
    step("server remove port {vm} {name}", server(addresses=lambda found: not found)),
    step("server add fixed ip {vm} private", says(Port_State="ACTIVE"),
         server(addresses=lambda found: len(found.get("private", ())) == 1)),
    step("server show {vm}", ip="addresses", id="id"),
    step("network create --external {name}-out"),
    step("subnet create --network {name}-out --subnet-range 198.51.100.0/24 {name}-out"),
    step("network show private", subnet="subnets"),
    step("router create --external-gateway {name}-out {name}"),
    step("router add subnet {name} {subnet}"),
    step("floating ip create {name}-out", floating="floating_ip_address"),
    step("server add floating ip {vm} {floating}", shown("floating ip show {floating}", fixed_ip_address="{ip}"),
         server(addresses=lambda found: len(found.get("private", ())) == 2)),
    step("server remove floating ip {vm} {floating}", shown("floating ip show {floating}", fixed_ip_address=None),
         server(addresses=lambda found: len(found.get("private", ())) == 1)),
    step("floating ip delete {floating}"),
    step("router unset --external-gateway {name}"),
    step("router remove subnet {name} {subnet}"),
    step("router delete {name}"),
    step("network delete {name}-out"),
    step("server remove fixed ip {vm} {ip}", refused="404"),  # from 2.44 on, as published
    step("server remove fixed ip {vm} {ip}", server(addresses=lambda found: not any(found.values())), version="2.43"),
    step("security group create {name}"),
    step("server add security group {vm} {name}", tells(""),
         server(security_groups=lambda found: len(found) == 2)),
    step("server remove security group {vm} {name}", server(security_groups=lambda found: len(found) == 1)),
    step("server delete {vm}", gone("server show {vm}")),
    step("security group delete {name}"),
    step("port delete {name}"),
)  # fmt: skip

CONSOLES = (
    step(_MAKE, server("ACTIVE")),
    step("console url show --serial {vm}", says(type="serial")),
    step("console url show --spice {vm}", says(type="spice-html5")),
    step("console url show --mks {vm}", refused="Unavailable console type"),
    step("console url show --novnc {vm}", says(type="novnc"), token="url~token%3D([0-9a-f-]+)"),
    step("console connection show {token}", says(instance_uuid=lambda found: len(found) == 36)),
    step("server delete {vm}", gone("server show {vm}")),
)

SHARES = (
    step(_MAKE, server("ACTIVE")),
    step("server share list {vm}", lambda stage: stage.printed == [], version="2.97"),
    step("server add share {vm} {share}", refused="while it is in vm_state active", version="2.97"),
    step("server stop {vm}", server("SHUTOFF")),
    step(
        "server add share --tag home {vm} {share}",
        says(Tag="home", Status="attaching"),
        shown("@2.97 server share show {vm} {share}", Status="inactive"),
        version="2.97",
    ),
    step("server add share {vm} {share}", refused="already", version="2.97"),
    step("server start {vm}", server("ACTIVE")),
    step("server share list {vm}", lists(Tag="home", Status="active"), version="2.97"),
    step("server stop {vm}", server("SHUTOFF")),
    step("server remove share {vm} {share}", unlisted("@2.97 server share list {vm}", Tag="home"), version="2.97"),
    step("server share show {vm} {share}", refused="not attached", version="2.97"),
    step("server add share {vm} {id}", refused="No Share found", version="2.97"),
    step("server delete {vm}", gone("server show {vm}")),
)

SCENARIOS: dict[str, tuple[Step, ...]] = {
    "flavors": FLAVORS, "keypairs": KEYPAIRS, "aggregates": AGGREGATES, "operators": OPERATORS, "limits": LIMITS,
    "groups": GROUPS, "power": POWER, "images": IMAGES, "moves": MOVES, "live": LIVE, "evacuation": EVACUATION,
    "volumes": VOLUMES, "networks": NETWORKS, "consoles": CONSOLES, "shares": SHARES,
    "qos": QOS, "trunks": TRUNKS, "encryption": ENCRYPTION,
}  # fmt: skip
