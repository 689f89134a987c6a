#!/bin/sh
# The life of a cell as its users and its operator see it: three cells are built, one dies, is listed and deleted in while
# it is dead, comes back, is drained, loses a server and both hosts to other cells while all run on, and is deleted.
#
#   docs/demo/cells.sh DIRECTORY [BIN]
#
# DIRECTORY is made, and removed at the end; polycell and openstack are in BIN (.venv/bin). Needs MariaDB's server.
set -eu

state=${1:?usage: cells.sh DIRECTORY [BIN]}
bin=${2:-.venv/bin}
base=${PORT_BASE:-18900}
db_port=$((base + 90))
mkdir -p "$state"
state=$(cd "$state" && pwd)

step() { printf '\n== %s\n' "$*"; }
run() {
    case $1 in manage) printf '$ polycell-%s\n' "$*" ;; *) printf '$ %s\n' "$*" ;; esac
    "$@"
}
manage() { "$bin/polycell-manage" --config-file "$state/cloud/etc/nova.conf" --config-file "$state/cloud/etc/global.conf" "$@"; }
openstack() { "$bin/openstack" "$@"; }

database_up() {
    mariadbd --no-defaults --user="$(id -un)" --datadir="$state/mariadb" --socket="$state/mariadb.sock" \
        --tmpdir="$state/tmp" --port="$db_port" --bind-address=127.0.0.1 --skip-log-bin >"$state/mariadb.log" 2>&1 &
    database=$!
    until mariadb --no-defaults --socket="$state/mariadb.sock" -e 'SELECT 1' >/dev/null 2>&1; do
        kill -0 "$database"
        sleep 0.2
    done
}

until_true() {  # until_true SECONDS COMMAND…: again and again until it succeeds
    left=$(($1 * 5)); shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { echo "never came true: $*" >&2; return 1; }
        sleep 0.2
    done
}

say_why() {  # print the services' warnings when this ends too early
    grep -h -r -E 'WARNING|ERROR' "$state/cloud/logs" | tail -n 40
}

finish() {
    [ $? -eq 0 ] || say_why
    "$bin/polycell" down --state "$state/cloud" >/dev/null 2>&1 || true
    [ -z "${database:-}" ] || kill "$database" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$state"
}
trap finish EXIT
trap 'exit 1' INT TERM

step "Three cells, two hosts each; cell3 has a database server of its own"
mkdir -p "$state/mariadb" "$state/tmp"  # in a shared one, servers remove each other's temporary tables
TMPDIR="$state/tmp" mariadb-install-db --no-defaults --user="$(id -un)" --auth-root-authentication-method=socket \
    --datadir="$state/mariadb" >"$state/install.log" 2>&1
database_up
mariadb --no-defaults --socket="$state/mariadb.sock" -e "CREATE DATABASE cell3;
    CREATE USER polycell@127.0.0.1 IDENTIFIED BY 'demo'; GRANT ALL ON cell3.* TO polycell@127.0.0.1;"
"$bin/polycell" up --state "$state/cloud" --port-base "$base" --cells 3 --driver simulated --processes --detach \
    --database "cell3=mysql+pymysql://polycell:demo@127.0.0.1:$db_port/cell3"
# shellcheck disable=SC1091
. "$state/cloud/openrc"
export OS_COMPUTE_API_VERSION=2.96
for number in 1 2 3; do
    openstack server create --flavor m1.tiny --image tiny --network private --availability-zone "nova:cell$number-host1" \
        --wait "web-$number" -f value -c name >/dev/null
done
openstack server create --flavor m1.tiny --image tiny --network private --availability-zone nova:cell3-host2 \
    --wait web-4 -f value -c name >/dev/null
openstack server create --flavor m1.tiny --image tiny --network private --availability-zone nova:cell3-host1 \
    --wait web-5 -f value -c name >/dev/null
run openstack server list -c Name -c Status -c Host --long --sort-column Name
run manage cell_v2 list_cells --detail
web5=$(openstack server show web-5 -f value -c id)
web4=$(openstack server show web-4 -f value -c id)

step "cell3 dies: its servers keep their places in lists, the others are as they were"
kill -9 "$database"; wait "$database" 2>/dev/null || true
run openstack server list -c Name -c Status --sort-column Name
run manage cell_v2 check || echo "(exit code $?)"

step "A server of the dead cell is deleted, and stopping another is refused for now"
run openstack server delete "$web5"
run openstack server stop "$web4" || echo "(exit code $?)"
run openstack server create --flavor m1.tiny --image tiny --network private --wait web-6 -c name -c status

step "cell3 is back: what was accepted is done"
database_up
until_true 30 sh -c "! $bin/openstack server show $web5"
until_true 30 sh -c "$bin/openstack server show $web4 -f value -c status | grep -q ACTIVE"
run openstack server list -c Name -c Status -c Host --long --sort-column Name

step "cell3 is drained: what is new goes elsewhere"
run manage cell_v2 drain_cell --cell_uuid cell3
sleep 2
run openstack server create --flavor m1.tiny --image tiny --network private --min 4 --max 4 --wait new -f value -c name
run openstack server list --name new -c Name -c Host --long --sort-column Name

step "web-4 leaves cell3 while it runs"
run openstack server migrate --live-migration --host cell1-host2 --wait web-4
run openstack server show web-4 -c name -c status -c OS-EXT-SRV-ATTR:host -c addresses -c created

step "Both hosts leave cell3, web-3 with one of them"
run manage cell_v2 move_host --host cell3-host1 --to cell1
run manage cell_v2 move_host --host cell3-host2 --to cell2
run openstack server show web-3 -c name -c status -c OS-EXT-SRV-ATTR:host
run openstack server reboot --hard --wait web-3

step "cell3 is deleted"
run manage cell_v2 delete_cell --cell_uuid cell3
run manage cell_v2 list_cells --detail
run openstack server list -c Name -c Status -c Host --long --sort-column Name
