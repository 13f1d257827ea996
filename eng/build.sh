# Sourced by ./sluice and ./test: how they call 'dotnet build', so that nothing but the checkout decides what is built and no
# process stays behind.
#   dotnet_build FOLDER PROJECT [OPTION…]
dotnet_build() (
    folder=$1 project=$2
    shift 2
    # MSBuild takes every variable of the environment for a property (OutDir, Platform …), in any spelling: only those go
    # through that say where this machine keeps its things.
    for name in $(compgen -e); do
        case "$name" in
            PATH | HOME | USER | LOGNAME | SHELL | TMPDIR | TZ | CI | LD_LIBRARY_PATH | XDG_* | SSL_CERT_* | DOTNET_* | NUGET_* | \
                NuGetPackageSourceCredentials_* | http_proxy | https_proxy | all_proxy | no_proxy | HTTP_PROXY | HTTPS_PROXY | \
                ALL_PROXY | NO_PROXY) ;;
            *) unset "$name" 2>/dev/null ;;
        esac
    done
    export LC_ALL=C.UTF-8 MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_USE_MSBUILD_SERVER=0 DOTNET_CLI_TELEMETRY_OPTOUT=1 \
        DOTNET_NOLOGO=1 DOTNET_SKIP_FIRST_TIME_EXPERIENCE=1 DOTNET_GENERATE_ASPNET_CERTIFICATE=false \
        DOTNET_ADD_GLOBAL_TOOLS_TO_PATH=false DOTNET_CLI_WORKLOAD_UPDATE_NOTIFY_DISABLE=true
    # -noAutoResponse: no options from files in the folders above.
    cd -- "$folder" && exec dotnet build "$project" -c "${configuration:-Release}" --nologo -v quiet -clp:NoSummary \
        -noAutoResponse -nodeReuse:false -p:UseSharedCompilation=false "$@"
)
