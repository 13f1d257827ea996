#!/usr/bin/env bash
# Brings QEMU 11 into a cache folder outside the repository, from the archive the system's own package sources name, without
# root and without touching the system, and prints the path of a launcher. Quick when it is there; safe when two run at once.
#   eng/qemu.sh           prints the launcher, fetching it first when it is missing
#   eng/qemu.sh --check   prints the launcher when it is there, fetches nothing
# SLUICE_QEMU names a QEMU of your own instead. Where none can be had: one line on stderr, nothing on stdout, exit 1.
set -u
cache="${SLUICE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}/qemu"
launcher="$cache/qemu/qemu-system-x86_64"
suite=trixie                 # the newest QEMU lies in its backports, with the -accel qtest that older ones lack
new=

fail() { printf 'qemu: %s\n' "$1" >&2; [ -n "$new" ] && rm -rf "$new"; exit 1; }
trap '[ -n "$new" ] && rm -rf "$new"' EXIT

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

if [ -n "${SLUICE_QEMU:-}" ]; then
    command -v "$SLUICE_QEMU" >/dev/null 2>&1 || fail "SLUICE_QEMU names $SLUICE_QEMU, which is no program"
    check "$(command -v "$SLUICE_QEMU")" || fail "$why"
    command -v "$SLUICE_QEMU"
    exit 0
fi
# The folder appears in one rename, checked before it does: what is there is whole.
[ -x "$launcher" ] && { echo "$launcher"; exit 0; }
[ "${1:-}" = --check ] && fail "not there yet; eng/qemu.sh brings it"

[ "$(uname -m)" = x86_64 ] || fail "the recipe is for x86-64; set SLUICE_QEMU to a QEMU 11 of your own"
for tool in apt-get dpkg flock; do
    command -v "$tool" >/dev/null 2>&1 || fail "no $tool here; set SLUICE_QEMU to a QEMU 11 of your own"
done
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || fail "no Debian archive key here; set SLUICE_QEMU to a QEMU 11 of your own"
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null)
archive=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    sed -n "s/^${codename:-none}\(-updates\)\{0,1\} //p" | head -n 1)
[ -n "$archive" ] || fail "the system's package sources name no Debian archive; set SLUICE_QEMU to a QEMU 11 of your own"

mkdir -p "$cache" || fail "cannot write $cache"
exec 9>"$cache/.lock" || fail "cannot write $cache"
flock -w 600 9 || fail "another eng/qemu.sh has held $cache/.lock for ten minutes"
[ -x "$launcher" ] && { echo "$launcher"; exit 0; }

# A private apt: its own lists, cache and (empty) idea of what is installed, hence a closed set of packages down to libc.
echo "qemu: bringing QEMU into $cache (once, about 170 MB)" >&2
rm -rf "$cache"/.new.*
new="$cache/.new.$$"
mkdir -p "$new/apt/lists/partial" "$new/apt/cache/archives/partial" "$new/root" || fail "cannot write $new"
: > "$new/apt/status"
for release in "$suite" "$suite-backports"; do
    echo "deb [arch=amd64 signed-by=$keyring] $archive $release main"
done > "$new/apt/sources.list"
private=(-qq -o "Dir::State=$new/apt" -o "Dir::State::lists=$new/apt/lists" -o "Dir::State::status=$new/apt/status"
    -o "Dir::Cache=$new/apt/cache" -o "Dir::Etc::sourcelist=$new/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o APT::Architecture=amd64 -o APT::Install-Recommends=false -o APT::Sandbox::User= -o Debug::NoLocking=1
    -o Acquire::Languages=none -o Acquire::Retries=2 -o DPkg::Post-Invoke=)
log="$new/log"
timeout 300 apt-get "${private[@]}" update >"$log" 2>&1 || fail "the package lists cannot be had: $(tail -n 1 "$log")"
timeout 600 apt-get "${private[@]}" -y -t "$suite-backports" --download-only install qemu-system-x86 >"$log" 2>&1 ||
    fail "the packages cannot be had: $(tail -n 1 "$log")"
for deb in "$new"/apt/cache/archives/*.deb; do
    dpkg -x "$deb" "$new/root" >"$log" 2>&1 || fail "cannot unpack $(basename "$deb"): $(tail -n 1 "$log")"
done
rm -rf "$new/apt"

# Its own loader, libraries and modules: nothing of it may meet the system's. 'exec' keeps the process id of whoever started it.
cat > "$new/qemu-system-x86_64" <<'LAUNCHER'
#!/bin/sh
here=$(dirname -- "$(readlink -f -- "$0")")
libraries="$here/root/usr/lib/x86_64-linux-gnu"
export QEMU_MODULE_DIR="$libraries/qemu"
exec "$here/root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$libraries" "$here/root/usr/bin/qemu-system-x86_64" \
    -L "$here/root/usr/share/qemu" -L "$here/root/usr/share/seabios" "$@"
LAUNCHER
chmod +x "$new/qemu-system-x86_64"
check "$new/qemu-system-x86_64" || fail "$why"
rm -f "$log"
rm -rf "$cache/qemu"
mv "$new" "$cache/qemu" || fail "cannot move it into place in $cache"
echo "$launcher"
