# Sourced by the scripts that bring other people's tools from the Debian archive that the system's own package sources name:
# without root, without touching the system, and without its package lists, which a fresh machine does not have.
# The script says in $me who speaks, and in $instead what to do where the tools cannot be had.
suite=trixie                 # one closed set of packages down to libc, whatever release the system is
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
home=${HOME:-$(unset HOME; echo ~)}     # from the password file where HOME is not set
cache_root="${SLUICE_CACHE:-${XDG_CACHE_HOME:-$home/.cache}/sluice}"
case "$cache_root" in /*) ;; *) cache_root="$PWD/$cache_root" ;; esac
new=

fail() { printf '%s: %s; %s\n' "$me" "${1//$'\n'/ }" "$instead" >&2; exit 1; }
trap '[ -n "$new" ] && rm -rf -- "$new"' EXIT

# The files that apt reads its sources from, in its order.
source_files() {
    local list='' parts='' file
    eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d 2>/dev/null)"
    for file in "$list" "${parts:-/none/}"*.list "${parts:-/none/}"*.sources; do
        case "${file##*/}" in *[!A-Za-z0-9._-]*) continue ;; esac
        [ -f "$file" ] && [ -r "$file" ] && printf '%s\n' "$file"
    done
}

# The addresses that may be Debian's main archive, the likeliest first, from sources in both forms. Somebody else's archive may
# look like it (Docker's and Microsoft's name Debian's releases too): what its key then signs decides, see bring.
#   archives RELEASE ARCHITECTURE      e.g. archives bookworm amd64
archives() {
    local file
    source_files | while IFS= read -r file; do
        awk -v release="$1" -v machine="$2" -v form="${file##*.}" '
            function offer(uris, suites, components, signed, machines,    list, words, n, i, rank, best) {
                if (!has(components, "main") || (machines != "" && !has(machines, machine))) return
                best = 9
                n = split(suites, list, " ")
                for (i = 1; i <= n; i++) {
                    if (list[i] ~ /-security$/ || list[i] ~ /\//) continue
                    rank = list[i] == release || index(list[i], release "-") == 1 ? 0 : 3
                    if (rank < best) best = rank
                }
                if (best == 9) return
                if (signed !~ /debian-archive/) best += signed == "" || signed ~ /BEGIN PGP/ ? 1 : 2
                n = split(uris, words, " ")
                for (i = 1; i <= n; i++) {
                    sub(/\/+$/, "", words[i])
                    if (words[i] ~ /^[A-Za-z0-9+.-]+:\// && words[i] !~ /^cdrom:/) print best, words[i]
                }
            }
            function has(words, word) { return index(" " words " ", " " word " ") > 0 }
            function option(options, name,    value) {
                if (!match(options, "(^| )" name "=[^ ]*")) return ""
                value = substr(options, RSTART, RLENGTH)
                sub(/^[^=]*=/, "", value)
                gsub(/,/, " ", value)
                return value
            }
            function stanza(    enabled) {
                enabled = tolower(field["enabled"])
                gsub(/ /, "", enabled)
                if (has(field["types"], "deb") && enabled !~ /^(no|false|without|off|disable|0)$/)
                    offer(field["uris"], field["suites"], field["components"], field["signed-by"], field["architectures"])
                split("", field)
                name = ""
            }
            { sub(/\r$/, ""); gsub(/\t/, " ") }
            form == "sources" && /^#/ { next }
            form == "sources" && /^ *$/ { stanza(); next }
            form == "sources" && /^ / { field[name] = field[name] $0; next }
            form == "sources" && /:/ {
                name = tolower(substr($0, 1, index($0, ":") - 1))
                field[name] = substr($0, index($0, ":") + 1)
                next
            }
            form != "sources" {
                sub(/#.*/, "")
                if (!sub(/^ *deb +/, "")) next
                options = ""
                if (substr($0, 1, 1) == "[") {
                    options = substr($0, 2, index($0, "]") - 2)
                    $0 = substr($0, index($0, "]") + 1)
                }
                uri = $1; release_name = $2
                $1 = $2 = ""
                offer(uri, release_name, $0, option(options, "signed-by"), option(options, "arch"))
            }
            END { if (form == "sources") stanza() }' "$file"
    done | sort -s -n -k 1,1 | cut -d ' ' -f 2- | awk '!seen[$0]++'
}

# apt-get with a state of its own: its lists, its cache, its (empty) idea of what is installed. The system's settings stay
# (proxies, passwords), but not its hooks, which would tidy the system's folders. It does not hold the lock: where the script is
# killed, the next call takes its folder away and need not wait.
private_apt() {
    local limit=$1; shift
    LC_ALL=C timeout --foreground --kill-after=10 "$limit" apt-get -c "$new/apt/apt.conf" -qq \
        -o "Dir::State=$new/apt" -o "Dir::State::lists=$new/apt/lists" -o "Dir::State::status=$new/apt/status" \
        -o "Dir::Cache=$new/apt/cache" -o "Dir::Cache::archives=$new/apt/cache/archives" \
        -o "Dir::Etc::sourcelist=$new/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
        -o "APT::Architecture=$architecture" -o APT::Install-Recommends=false -o APT::Sandbox::User= -o APT::Default-Release= \
        -o Acquire::AllowInsecureRepositories=false -o APT::Get::AllowUnauthenticated=false \
        -o Debug::NoLocking=1 -o Acquire::Languages=none -o Acquire::Retries=3 "$@" >"$new/log" 2>&1 </dev/null 9>&-
}

# What went wrong, in one line.
reason() { { grep '^E: ' "$new/log" || cat "$new/log"; } | tail -n 1 | cut -c 1-300; }

# Brings packages into a folder, which appears in one rename when it is whole. Returns at once where another call has just done it.
#   bring FOLDER MEGABYTES RELEASE PACKAGE…
# The script's own 'finish FOLDER' adds launchers and says in $why what is wrong with the result.
bring() {
    local target=$1 size=$2 release=$3 tool codename candidates archive line started deb
    shift 3
    for tool in apt-get apt-config dpkg tar flock; do
        command -v "$tool" >/dev/null 2>&1 || fail "no $tool here"
    done
    [ -r "$keyring" ] || fail "no Debian archive key here"
    architecture=$(dpkg --print-architecture)
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null)
    candidates=$(archives "${codename:-none}" "$architecture" | head -n 5)
    [ -n "$candidates" ] ||
        fail "the system's package sources ($(source_files | tr '\n' ' ' | sed 's/ $//')) name no Debian archive"

    mkdir -p -- "${target%/*}" 2>/dev/null && { exec 9> "${target%/*}/.lock"; } 2>/dev/null || fail "cannot write ${target%/*}"
    flock -w 900 9 || fail "another call has held ${target%/*}/.lock for 15 minutes"
    [ -d "$target" ] && return
    started=$SECONDS
    printf '%s: bringing it into %s (once, about %s MB)\n' "$me" "$target" "$size" >&2
    rm -rf -- "${target%/*}"/.new.* 2>/dev/null
    new="${target%/*}/.new.$$"
    { mkdir -p -- "$new/apt/lists/partial" "$new/apt/cache/archives/partial" "$new/root" && : > "$new/apt/status" &&
        for tool in APT::Update::{Pre-Invoke,Post-Invoke,Post-Invoke-Success} DPkg::{Pre-Invoke,Post-Invoke,Pre-Install-Pkgs}; do
            echo "#clear $tool;"
        done > "$new/apt/apt.conf"; } 2>/dev/null || fail "cannot write $new"

    why=
    while IFS= read -r archive; do
        for line in "$suite" "$release"; do
            echo "deb [arch=$architecture signed-by=$keyring] $archive $line main"
        done | sort -u > "$new/apt/sources.list"
        if private_apt 180 -o APT::Update::Error-Mode=any update; then why=; break; fi
        why="$archive does not give $release: $(reason)"
        [ $((SECONDS - started)) -lt 300 ] || break
    done <<< "$candidates"
    [ -z "$why" ] || fail "the package lists cannot be had: $why"
    private_apt 600 -y -t "$release" --download-only install "$@" || fail "the packages cannot be had: $(reason)"
    for deb in "$new"/apt/cache/archives/*.deb; do
        dpkg -x "$deb" "$new/root" >"$new/log" 2>&1 || fail "cannot unpack ${deb##*/}: $(reason)"
    done
    rm -rf -- "$new/apt"
    finish "$new" || fail "$why"
    rm -f -- "$new/log"
    mv -T -- "$new" "$target" 2>/dev/null || fail "cannot move it into place in ${target%/*}"
    new=
}

# Writes a launcher for a program that was brought: with its own loader and libraries, so that nothing of it meets the system's.
# 'exec' keeps the process id of whoever started it.
#   launcher FILE PATH-TO-ROOT PROGRAM [SHELL-WORDS…]
launcher() {
    local file=$1 up=$2 program=$3
    shift 3
    cat > "$file" <<LAUNCHER && chmod +x "$file"
#!/bin/sh
root=\$(dirname -- "\$(readlink -f -- "\$0")")$up
for libraries in "\$root"/usr/lib/*-linux-gnu*; do :; done
for loader in "\$libraries"/ld-linux-*.so.*; do :; done
export QEMU_MODULE_DIR="\$libraries/qemu"
exec "\$loader" --library-path "\$libraries" "\$root$program" $*"\$@"
LAUNCHER
}
