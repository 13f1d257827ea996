#!/usr/bin/env bash
# Brings QEMU 11 into a cache folder outside the repository, from the archive the system's own package sources name, without
# root and without touching the system, and prints the path of a launcher. Quick when it is there; safe when two run at once.
#   eng/qemu.sh           prints the launcher, fetching it first when it is missing
#   eng/qemu.sh --check   prints the launcher when it is there, fetches nothing
# SLUICE_QEMU names a QEMU of your own instead. Where none can be had: one line on stderr, nothing on stdout, exit 1.
set -u -o pipefail
me=qemu instead="set SLUICE_QEMU to a QEMU 11 of your own"
unset CDPATH
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/archive.sh"
cache="$cache_root/qemu"
program="$cache/qemu/qemu-system-x86_64"

# A QEMU is good when it starts, has the devices and takes the accelerator: help pages answer 0 even for what is absent.
check() {
    local devices version
    version=$(timeout 20 "$1" --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p')
    [ -n "$version" ] || { why="$1 does not start"; return 1; }
    [ "${version%%.*}" -ge 11 ] || { why="$1 is QEMU $version, and 11 or newer is needed"; return 1; }
    devices=$(timeout 20 "$1" -device help 2>/dev/null)
    for device in intel-iommu edu nvme iommu-testdev; do
        case "$devices" in *"name \"$device\""*) ;; *) why="$1 has no $device"; return 1 ;; esac
    done
    echo quit | timeout 20 "$1" -accel qtest -machine q35 -display none -nodefaults -monitor stdio >/dev/null 2>&1 ||
        { why="$1 does not take -accel qtest"; return 1; }
}

# The archive's newest QEMU lies in its backports, with the -accel qtest that older ones lack.
finish() {
    launcher "$1/qemu-system-x86_64" /root /usr/bin/qemu-system-x86_64 \
        '-L "$root/usr/share/qemu" -L "$root/usr/share/seabios" ' || { why="cannot write $1"; return 1; }
    check "$1/qemu-system-x86_64"
}

if [ -n "${SLUICE_QEMU:-}" ]; then
    command -v "$SLUICE_QEMU" >/dev/null 2>&1 || fail "SLUICE_QEMU names $SLUICE_QEMU, which is no program"
    check "$(command -v "$SLUICE_QEMU")" || fail "$why"
    command -v "$SLUICE_QEMU"
    exit 0
fi
if [ ! -x "$program" ]; then
    [ "${1:-}" = --check ] && { echo "qemu: not there yet; eng/qemu.sh brings it" >&2; exit 1; }
    [ "$(uname -m)" = x86_64 ] || fail "the recipe is for x86-64"
    bring "$cache/qemu" 170 "$suite-backports" qemu-system-x86
fi
echo "$program"
