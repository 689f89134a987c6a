#!/bin/bash
# Run before libvirtd starts: it makes libvirtd forget the guests that its last process was just starting when it died.
# libvirt 9.0 keeps such a guest as "paused (starting up)" with a lock that is never free again. Its status file has
# pid='0'; a QEMU that was started all the same, which no libvirtd would ever find, is ended.
#   drop-unstarted.sh DIRECTORY     with the status files, /run/libvirt/qemu
set -u
directory=$1
for status in "$directory"/*.xml; do
    [ -e "$status" ] || continue
    grep -q "^<domstatus state='paused' reason='starting up' pid='0'>" "$status" || continue
    guest=$(basename "$status" .xml)
    pid=$(cat "$directory/$guest.pid" 2>/dev/null || echo 0)
    if grep -qz "guest=$guest," "/proc/$pid/cmdline" 2>/dev/null; then
        kill -KILL "$pid"
    fi
    rm -f "$status" "$status.new" "$directory/$guest.pid"
    echo "$guest was not started, libvirt forgets it"
done
