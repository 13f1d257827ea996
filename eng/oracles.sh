#!/usr/bin/env bash
# Brings the tools that tests compare our bytes with (iasl, lspci) into a cache folder outside the repository, from the
# system's own package sources, without root and without touching the system. Prints the folder to put on the PATH,
# or nothing where they cannot be had: the tests that need them are then skipped and say so.
set -u
cache="${SLUICE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}/oracles"
bin="$cache/bin"

have() { command -v "$1" >/dev/null 2>&1; }
have iasl && have lspci && exit 0
[ -x "$bin/iasl" ] && [ -x "$bin/lspci" ] && { echo "$bin"; exit 0; }
have apt-get && have dpkg || { echo "oracles: no apt here: tests that compare with iasl and lspci are skipped" >&2; exit 0; }

mkdir -p "$bin" "$cache/debs" "$cache/root" || exit 0
cd "$cache/debs" || exit 0
fetch() { timeout 120 apt-get download acpica-tools pciutils libpci3 pci.ids >/dev/null 2>&1; }
if ! fetch; then
    # Package lists may be missing on a fresh machine; ours go into a private folder.
    mkdir -p "$cache/apt/lists/partial" "$cache/apt/cache/archives/partial"
    private=(-o "Dir::State::lists=$cache/apt/lists" -o "Dir::Cache=$cache/apt/cache" -o "APT::Sandbox::User=" -o "Debug::NoLocking=1")
    timeout 180 apt-get "${private[@]}" update >/dev/null 2>&1
    timeout 120 apt-get "${private[@]}" download acpica-tools pciutils libpci3 pci.ids >/dev/null 2>&1 ||
        { echo "oracles: the packages cannot be had: tests that compare with iasl and lspci are skipped" >&2; exit 0; }
fi
for deb in ./*.deb; do dpkg -x "$deb" "$cache/root" || exit 0; done
libraries=$(dirname "$(find "$cache/root" -name 'libpci.so.3*' -print -quit)")
for tool in iasl lspci; do
    real=$(find "$cache/root" -type f -name "$tool" -perm -u+x -print -quit)
    [ -n "$real" ] || continue
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$libraries" "$real" > "$bin/$tool"
    chmod +x "$bin/$tool"
done
[ -x "$bin/iasl" ] && "$bin/iasl" -v >/dev/null 2>&1 && [ -x "$bin/lspci" ] && "$bin/lspci" --version >/dev/null 2>&1 && echo "$bin"
exit 0
