#!/bin/bash
# The first process of a private host: it sets the namespaces it was started in up as a host, runs libvirtd, and
# collects whatever that leaves behind. When it ends, the host and all its guests end: a power cut.
#   init.sh HOST DIRECTORY RUN CACHE RECORD URI HIDE_KVM
set -eu
host=$1 directory=$2 run=$3 cache=$4 record=$5 uri=$6 hide_kvm=$7

# /proc is still the machine's: this reads the process's id and start time as others see them.
read -r stat </proc/self/stat
pid=${stat%% *}
fields=(${stat##*) })

mount --make-rprivate /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
hostname "$host"
ip link set lo up
mkdir -p /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /etc/libvirt
mount --bind "$run" /run/libvirt
mount --bind "$directory/lib" /var/lib/libvirt
mount --bind "$cache" /var/cache/libvirt
mount --bind "$directory/log" /var/log/libvirt
mount --bind "$directory/etc" /etc/libvirt
if [ "$hide_kvm" = 1 ] && [ -e /dev/kvm ]; then
    # A read-only plain file: libvirt sees that it can't be opened, and leaves its knowledge of QEMU valid.
    : >"$directory/no-kvm"
    mount --bind "$directory/no-kvm" /dev/kvm
    mount -o remount,bind,ro /dev/kvm
fi
rm -f /run/libvirt/*.pid /run/libvirt/libvirt-sock*

watch_libvirtd() {
    while :; do
        bash "$(dirname "$0")/drop-unstarted.sh" /run/libvirt/qemu >>/var/log/libvirt/output 2>&1 || true
        libvirtd --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirt/libvirtd.pid \
            >>/var/log/libvirt/output 2>&1 </dev/null || true
        sleep 0.5
    done
}
watch_libvirtd &

draft=$record.$pid
printf '{"host": "%s", "pid": %s, "started": %s, "uri": "%s"}\n' "$host" "$pid" "${fields[19]}" "$uri" >"$draft"
mv "$draft" "$record"
while :; do wait -n 2>/dev/null || sleep 0.2; done
