#!/usr/bin/env bash
# Brings the tools that tests compare our bytes with (iasl, lspci) into a cache folder outside the repository, from the archive
# the system's own package sources name, without root and without touching the system. Prints the folder to put on the PATH, or
# nothing where both are on it already. Where they cannot be had: one line on stderr, nothing on stdout, exit 1.
set -u -o pipefail
me=oracles instead="tests that compare with iasl and lspci are skipped"
unset CDPATH
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/archive.sh"
tools="$cache_root/oracles/tools"

finish() {
    local name path
    mkdir -p -- "$1/bin" || return 1
    for name in iasl lspci; do
        path=$(cd -- "$1/root" && find ./usr -type f -name "$name" -perm -u+x -print -quit)
        [ -n "$path" ] && launcher "$1/bin/$name" /../root "${path#.}" || { why="the packages hold no $name"; return 1; }
    done
    timeout 20 "$1/bin/iasl" -v >/dev/null 2>&1 || { why="iasl does not start"; return 1; }
    timeout 20 "$1/bin/lspci" --version >/dev/null 2>&1 || { why="lspci does not start"; return 1; }
}

command -v iasl >/dev/null 2>&1 && command -v lspci >/dev/null 2>&1 && exit 0
[ -x "$tools/bin/iasl" ] && [ -x "$tools/bin/lspci" ] || bring "$tools" 30 "$suite" acpica-tools pciutils
echo "$tools/bin"
