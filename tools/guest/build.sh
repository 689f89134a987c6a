#!/bin/sh
# Build the guest: build.sh DEBS OUT
#   DEBS  a directory with one .deb of each package in packages.txt, and of the kernel (linux-image-*-cloud-amd64)
#   OUT   an empty directory; gets vmlinuz, initrd.gz, guest.qcow2 and kernel_version, and nothing else
# Needs no rights and no network. image.py calls it; nothing of the packages is installed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
debs=$1 out=$2
PATH=$PATH:/usr/sbin:/sbin
label=GUESTBOOT
cmdline="console=tty0 console=ttyS0 quiet panic=5 tsc=reliable"
modules="virtio_pci virtio_blk virtio_net virtio_console virtio_balloon virtio_rng virtio_scsi sd_mod sr_mod ata_piix
         isofs vfat nls_ascii nls_cp437 evdev button efivarfs"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
packages=$work/packages root=$work/root
mkdir "$packages" "$root"
for deb in "$debs"/*.deb; do
    dpkg-deb -x "$deb" "$packages"
done

# --- the kernel
version=$(ls "$packages/lib/modules")
depmod -b "$packages" "$version"
cp "$packages/boot/vmlinuz-$version" "$out/vmlinuz"
printf '%s\n' "$version" >"$out/kernel_version"

# --- the ramdisk: the whole system
cd "$root"
mkdir -p bin dev etc/acpi/PWRF etc/dropbear lib/modules lib64 mnt proc root/.ssh run sbin sys tmp \
    usr/sbin usr/share/guest var/lock var/log
ln -s ../run var/run
chmod 700 root root/.ssh
cp "$packages/bin/busybox" bin/busybox
for module in $modules; do
    modprobe -d "$packages" -S "$version" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" {print $2}'
done | awk '!seen[$0]++' | while read -r file; do
    cp "$file" lib/modules/
    basename "$file" >>etc/modules.order
done

libraries=$packages/lib/x86_64-linux-gnu:$packages/usr/lib/x86_64-linux-gnu
loader=$packages/lib64/ld-linux-x86-64.so.2
[ -e "$loader" ] || loader=$packages/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
cp -L "$packages/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" lib64/
program() { # program PATH IN: a dynamic program and the libraries that it needs
    cp "$packages/$1" "$2"
    "$loader" --inhibit-cache --library-path "$libraries" --list "$packages/$1" >"$work/needs"
    if grep 'not found' "$work/needs" >&2; then exit 1; fi
    awk '$2 == "=>" {print $3}' "$work/needs" | while read -r library; do cp -L "$library" lib/; done
}
program usr/sbin/dropbear usr/sbin/
program usr/sbin/qemu-ga usr/sbin/
cp -L "$packages/lib/x86_64-linux-gnu/libnss_files.so.2" lib/

printf 'root:x:0:0:root:/root:/bin/sh\n' >etc/passwd
printf 'root:*:19000:0:99999:7:::\n' >etc/shadow
printf 'root:x:0:\n' >etc/group
printf '/bin/sh\n' >etc/shells
printf 'passwd: files\ngroup: files\nshadow: files\n' >etc/nsswitch.conf
cp "$here/init" init
cp "$here"/*.awk "$here/lease" "$here/fsfreeze-hook" usr/share/guest/
cp "$here/chpasswd" usr/sbin/chpasswd
cp "$here/power" etc/acpi/PWRF/00000080
chmod 600 etc/shadow
chmod 755 init usr/share/guest/lease usr/share/guest/fsfreeze-hook usr/sbin/chpasswd etc/acpi/PWRF/00000080
find . -exec touch -h -d @0 {} +
find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet --reproducible | gzip -n -6 >"$out/initrd.gz"
cd "$work"

# --- the disk: one FAT partition that a BIOS starts by syslinux, and UEFI (secure boot too) by shim and grub
megabytes=$(( ($(stat -c %s "$out/vmlinuz") + $(stat -c %s "$out/initrd.gz")) / 1048576 + 16 ))
truncate -s "${megabytes}M" disk.raw
printf 'label: dos\nstart=2048, type=ef, bootable\n' | sfdisk -q disk.raw
dd if="$packages/usr/lib/syslinux/mbr/mbr.bin" of=disk.raw conv=notrunc bs=440 count=1 status=none
truncate -s "$((megabytes - 1))M" part.fat
mkfs.vfat -n "$label" part.fat >/dev/null
mcopy -i part.fat "$out/vmlinuz" ::vmlinuz
mcopy -i part.fat "$out/initrd.gz" ::initrd.gz
cat >syslinux.cfg <<EOF
DEFAULT guest
PROMPT 0
TIMEOUT 0
SERIAL 0 115200
LABEL guest
 KERNEL vmlinuz
 INITRD initrd.gz
 APPEND $cmdline
EOF
cat >grub.cfg <<EOF
search --no-floppy --set=root --label $label
linux /vmlinuz $cmdline
initrd /initrd.gz
boot
EOF
mcopy -i part.fat syslinux.cfg ::syslinux.cfg
mmd -i part.fat ::EFI ::EFI/BOOT ::EFI/debian
mcopy -i part.fat "$packages/usr/lib/shim/shimx64.efi.signed" ::EFI/BOOT/BOOTX64.EFI
mcopy -i part.fat "$packages/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" ::EFI/BOOT/grubx64.efi
mcopy -i part.fat grub.cfg ::EFI/debian/grub.cfg
mcopy -i part.fat grub.cfg ::EFI/BOOT/grub.cfg
syslinux --install part.fat
dd if=part.fat of=disk.raw bs=1M seek=1 conv=notrunc,sparse status=none
qemu-img convert -c -f raw -O qcow2 disk.raw "$out/guest.qcow2"
