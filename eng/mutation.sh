#!/usr/bin/env bash
# Mutation score of the page-table algorithm, its formats and VT-d's structures: Stryker changes the code in one place after
# another and looks whether a test fails. Not part of ./test: 2,400 changes take some hours on two
# processors; give it the machine alone, or what is slow counts as found.
#   eng/mutation.sh                          all of it
#   eng/mutation.sh '**/X86.cs' '**/Vtd/*'   these files of src/Sluice.Formats
# It works in a copy, so that no changed assembly stays behind; the report lies in a cache folder outside the repository,
# and its path is the last line. Options, and which files count: tests/Sluice.Formats.Tests/stryker-config.json.
set -eu
unset CDPATH
cd "$(dirname "$0")/.."
report="${SLUICE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}/mutation"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | tar --null --create --files-from=- | tar --extract --directory="$copy"

# One seed of the property tests, no hostile words, see Effort.cs: they are repeated for every change.
export SLUICE_ROUNDS="${SLUICE_ROUNDS:-0}"
options=(--output "$report")
for file in "$@"; do options+=(--mutate "$file"); done
(cd "$copy" && dotnet tool restore >/dev/null && cd tests/Sluice.Formats.Tests && nice -n 19 dotnet stryker "${options[@]}")
echo "$report/reports/mutation-report.html"
