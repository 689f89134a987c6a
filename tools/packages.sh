#!/bin/sh
# Install the Debian packages that are missing, and start none of the servers among them.
#   tools/packages.sh up      what running a cloud needs; as root also what real guests need, where that can be had
#   tools/packages.sh test    what the tests start for themselves
set -eu

PATH=$PATH:/usr/sbin:/sbin
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
    if [ "$(id -u)" = 0 ]; then want openssh-client ssh; fi
fi
needed=$missing

missing=""
# Libvirt and QEMU, what makes their networks, what makes images and config drives, what builds libvirt-python.
want libvirt-daemon libvirtd
# Its installation makes the user libvirt-qemu, which libvirtd needs at its start whatever its configuration says.
getent passwd libvirt-qemu >/dev/null || missing="$missing libvirt-daemon-system"
want libvirt-daemon-driver-qemu /usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so
want qemu-system-x86 qemu-system-x86_64
want qemu-utils qemu-img
want ovmf /usr/share/OVMF/OVMF_CODE_4M.fd
want dnsmasq-base dnsmasq
want nftables nft
want iptables iptables
want ebtables ebtables
want iproute2 ip
want genisoimage genisoimage
want mtools mcopy
want dosfstools mkfs.vfat
want e2fsprogs mkfs.ext4
want fdisk sfdisk
want syslinux syslinux
want cpio cpio
want kmod depmod
# The guests of the tests of networks.
if [ "$1" = test ]; then want busybox busybox; fi
want gcc gcc
want pkg-config pkg-config
want libvirt-dev /usr/include/libvirt/libvirt.h
want libc6-dev /usr/include/stdio.h
if ! "${python:-false}" -c "import os, sysconfig, sys
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()['include'], 'Python.h')))" 2>/dev/null; then
    missing="$missing python3-dev"
fi
guests=$missing

[ -n "$needed$guests" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    if [ -n "$needed" ]; then
        echo "These Debian packages are needed, and only root can install them:$needed" >&2
        exit 1
    fi
    echo "For real guests, rather than simulated hosts, root would have to install:$guests" >&2
    exit 0
fi
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    made=1
fi
trap '[ -z "$made" ] || rm -f "$policy"' EXIT
export DEBIAN_FRONTEND=noninteractive
add() { apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null; }

if [ -n "$needed" ]; then
    echo "installing$needed"
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    add $needed
fi
[ -n "$guests" ] || exit 0
echo "installing for real guests:$guests"
[ -n "$needed" ] || apt-get update -qq || true
# shellcheck disable=SC2086  # a list of words
if add $guests; then exit 0; fi
failed=""
for package in $guests; do
    add "$package" 2>/dev/null || failed="$failed $package"
done
[ -z "$failed" ] || echo "these could not be installed, so hosts may have to be simulated:$failed" >&2
