#!/bin/sh
# Install the Debian packages that are missing, and start none of the servers among them.
#   tools/packages.sh up      what running a cloud needs
#   tools/packages.sh test    what the tests start for themselves
set -eu

missing=""
want() { # want PACKAGE PATH...: unless one of the paths is there
    package=$1
    shift
    for path in "$@"; do
        if [ -e "$path" ] || command -v "$path" >/dev/null 2>&1; then return; fi
    done
    missing="$missing $package"
}

python=$(command -v python3.11 || command -v python3 || true)
if [ -z "$python" ]; then
    missing="$missing python3 python3-venv"
elif ! "$python" -c "import ensurepip, venv" 2>/dev/null; then
    missing="$missing python3-venv"
fi
if [ "$1" = test ]; then
    want mariadb-server mariadbd /usr/sbin/mariadbd
    want rabbitmq-server /usr/lib/rabbitmq/bin/rabbitmq-server
    want memcached memcached
    want postgresql /usr/lib/postgresql/15/bin/postgres
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "These Debian packages are needed, and only root can install them:$missing" >&2
    exit 1
fi
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    made=1
fi
trap '[ -z "$made" ] || rm -f "$policy"' EXIT
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086  # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
