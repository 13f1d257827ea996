namespace Sluice.Scripts.Tests;

/// <summary>
/// <c>./sluice</c> with a small checkout and a stand-in for dotnet: what it builds prints the source that it was built
/// from.
/// </summary>
public sealed class LauncherTests : IDisposable
{
    private readonly Folder _folder = new();

    public LauncherTests()
    {
        foreach (string name in (string[])["sluice", "eng/build.sh", "Directory.Build.props", "global.json"])
        {
            _folder.Write("checkout/" + name, File.ReadAllText(Path.Combine(Script.Root, name)), name == "sluice");
        }
        _folder.Write("checkout/src/Sluice.Cli/Program.cs", "one");
        Dotnet("""
            echo "$PWD" "$@" >> "$HOME/built"
            env >> "$HOME/environment"
            """ + Builds);
    }

    // The stand-in's last lines: a program from the source.
    private const string Builds = """

        source=$(dirname -- "$2")/Program.cs
        while [ "$1" != -o ]; do shift; done
        mkdir -p "$2"
        printf '#!/bin/sh\necho %s "$@"\n' "$(cat "$source")" > "$2/Sluice.Cli"
        chmod +x "$2/Sluice.Cli"
        """;

    public void Dispose() => _folder.Dispose();

    // Seen failing: silence unless standard error is a terminal.
    [Fact]
    public void ABuildSaysSoAndTheNextCallIsSilent()
    {
        Outcome first = Sluice("a 'b  c'");
        Assert.Equal("one a b  c", first.Good());
        Assert.StartsWith("sluice: building", Assert.Single(first.Errors), StringComparison.Ordinal);
        Outcome second = Sluice("d");
        Assert.Equal(("one d", ""), (second.Good(), second.Error));
        Assert.Equal(1, BuildCount());
    }

    // Seen failing: a source with an older time than the last build's was not looked at: the old program ran, silently.
    [Theory]
    [InlineData("2001-01-01")]
    [InlineData("2099-01-01")]
    public void AChangeIsSeenWhateverTheClockSays(string time)
    {
        Sluice("").Good();
        string source = _folder.Write("checkout/src/Sluice.Cli/Program.cs", "two");
        Script.Run(_folder.Path, $"touch -d {time} {Script.Quote(source)}").Good();
        Assert.Equal("two", Sluice("").Good());

        // Seen failing: a source from the future was built again at every call.
        Assert.Equal(("two", ""), (Sluice("").Good(), Sluice("").Error));
        Assert.Equal(2, BuildCount());
    }

    // A touched source is the same source; an earlier state is there still. Seen failing: every new time was a build.
    [Fact]
    public void OnlyContentsCount()
    {
        Sluice("").Good();
        string source = Path.Combine(_folder.Path, "checkout/src/Sluice.Cli/Program.cs");
        File.SetLastWriteTimeUtc(source, DateTime.UtcNow.AddHours(1));
        Assert.Equal("one", Sluice("").Good());
        File.WriteAllText(source, "two");
        Assert.Equal("two", Sluice("").Good());
        File.WriteAllText(source, "one");
        Assert.Equal("one", Sluice("").Good());
        Assert.Equal(2, BuildCount());
        _folder.Write("checkout/src/Sluice.Cli/obj/Made.cs", "made");
        Sluice("").Good();
        Assert.Equal(2, BuildCount());
        _folder.Write("checkout/src/Sluice.Cli/More.cs", "");
        Sluice("").Good();
        Assert.Equal(3, BuildCount());
        string more = Path.Combine(_folder.Path, "checkout/src/Sluice.Cli/More.cs");
        File.Move(more, more + ".x");
        Sluice("").Good();
        Assert.Equal(4, BuildCount());
    }

    // Seen failing: built into the folder that counts, so that the half-made output was fresh.
    [Theory]
    [InlineData("exit 1")]
    [InlineData("kill -KILL $(cat \"$HOME/launcher\")")]
    [InlineData("kill -INT $(cat \"$HOME/launcher\"); sleep 1; exit 1")]
    public void ABuildThatDidNotEndDoesNotCount(string end)
    {
        string good = File.ReadAllText(Path.Combine(_folder.Path, "programs/dotnet"));
        Sluice("").Good();
        _folder.Write("checkout/src/Sluice.Cli/Program.cs", "two");
        Dotnet(Builds + "\necho 'error CS0000: no'\n" + end);
        string call = "sh -c 'echo $$ > \"$HOME/launcher\"; exec checkout/sluice'";
        Assert.NotEqual(0, Script.Run(_folder.Path, call, Variables()).ExitCode);
        _folder.Write("programs/dotnet", good);
        Assert.Equal("two", Sluice("").Good());
        Assert.Equal(2, BuildCount());
        Assert.Empty(Directory.GetDirectories(Path.Combine(_folder.Path, "checkout/artifacts/sluice"), ".new.*"));
    }

    // The signal goes to the launcher alone, as from a service manager. Seen failing: dotnet and a shell that held the
    // lock stayed for good, and every later call waited for them.
    [Theory]
    [InlineData("TERM", 143)]
    [InlineData("INT", 130)]
    [InlineData("HUP", 129)]
    public void ABuildEndsWithItsLauncher(string signal, int status)
    {
        string good = File.ReadAllText(Path.Combine(_folder.Path, "programs/dotnet"));
        Dotnet("sleep 600 & echo $$ $! > \"$HOME/build\"; wait");
        string call = $$"""
            set -m
            checkout/sluice & launcher=$!
            for _ in {1..300}; do [ -s home/build ] && break; sleep 0.1; done
            kill -{{signal}} $launcher
            wait $launcher; status=$?
            for pid in $(cat home/build); do kill -0 $pid 2>/dev/null && { echo "$pid runs on"; kill -KILL $pid; }; done
            exit $status
            """;
        Outcome outcome = Script.Run(_folder.Path, call, Variables());
        Assert.Equal((status, ""), (outcome.ExitCode, outcome.Output));
        _folder.Write("programs/dotnet", good);
        Assert.Equal("one", Sluice("").Good());
        Assert.Empty(Directory.GetDirectories(Path.Combine(_folder.Path, "checkout/artifacts/sluice"), ".new.*"));
    }

    // Seen failing: a .NET that only the PATH knows built the program, which then did not find it.
    [Fact]
    public void TheProgramFindsTheDotnetThatBuiltIt()
    {
        string place = Path.Combine(_folder.Path, "sdk");
        Directory.CreateDirectory(Path.Combine(place, "host", "fxr"));
        string builds = Builds.Replace("echo %s", "echo %s $DOTNET_ROOT", StringComparison.Ordinal);
        _folder.Write("sdk/dotnet", "#!/bin/bash\n" + builds + "\n", executable: true);
        Script.Run(_folder.Path, "ln -sf ../sdk/dotnet programs/dotnet").Good();
        Assert.Equal($"one {place}",
            Script.Run(_folder.Path, "checkout/sluice", [.. Variables(), ("DOTNET_ROOT", null)]).Good());
        Assert.Equal("one /elsewhere",
            Script.Run(_folder.Path, "checkout/sluice", [.. Variables(), ("DOTNET_ROOT", "/elsewhere")]).Good());
    }

    // Seen failing: "the sources cannot be read", because their names stayed patterns.
    [Fact]
    public void OptionsOfTheShellThatCallsItDoNotCount()
    {
        Assert.Equal("one",
            Script.Run(_folder.Path, "checkout/sluice", [.. Variables(), ("SHELLOPTS", "noglob")]).Good());
    }

    // Seen failing: the build's last word hid between its lines, after no first one.
    [Fact]
    public void AFailedBuildShowsItsLogAndNothingRuns()
    {
        Dotnet("echo 'error CS0000: no'; exit 1");
        Outcome outcome = Sluice("");
        Assert.Equal((1, ""), (outcome.ExitCode, outcome.Output));
        Assert.Equal(["error CS0000: no", "sluice: the build failed"], outcome.Errors[1..]);
    }

    // Seen failing: the sources were built where they lie, and the program of a later state counted as the earlier
    // one's.
    [Fact]
    public void AChangeDuringTheBuildIsTheNextState()
    {
        Dotnet("""
            echo again >> "$HOME/built"
            source=$HOME/../checkout/src/Sluice.Cli/Program.cs
            [ -e "$HOME/changed" ] || { touch "$HOME/changed"; printf two > "$source"; }
            """ + Builds);
        Assert.Equal("one", Sluice("").Good());
        Assert.Equal("two", Sluice("").Good());
        _folder.Write("checkout/src/Sluice.Cli/Program.cs", "one");
        Assert.Equal("one", Sluice("").Good());
        Assert.Equal(2, BuildCount());
    }

    // Seen failing: without the lock.
    [Fact]
    public void TwoFirstCallsBuildOnce()
    {
        Dotnet("echo once >> \"$HOME/built\"; sleep 1" + Builds);
        Assert.Equal(["one a", "one b"], Sluice("a & checkout/sluice b; wait").Outputs.Order());
        Assert.Equal(1, BuildCount());
    }

    // Seen failing: the root was the link's folder; 'cd' printed its way with CDPATH set, and the root was two lines.
    [Fact]
    public void ItIsFoundThroughLinksAndFromAnywhere()
    {
        Script.Run(_folder.Path, "mkdir bin && ln -s ../checkout/sluice bin/first && ln -s first bin/second").Good();
        foreach (string call in (string[])["bin/first", "bin/second", "cd bin; ./second", "cd checkout; bash sluice",
            "cd checkout/src; CDPATH=.. ../sluice", "export CDPATH=/:$PWD; checkout/sluice",
            "PATH=$PWD/bin:$PATH; second"])
        {
            Assert.Equal("one", Script.Run(_folder.Path, call, Variables()).Good());
        }
        Assert.Equal(1, BuildCount());
        Assert.StartsWith(
            _folder.Path + "/checkout/artifacts/sluice/.new.", File.ReadAllText(Home("built")),
            StringComparison.Ordinal);
    }

    // Seen failing: "mkdir: cannot create directory" and a build that fails for pages.
    [Fact]
    public void ACheckoutThatCannotBeWrittenIsOneLineUnlessItIsBuilt()
    {
        string held = Script.HeldToModes();
        string checkout = Path.Combine(_folder.Path, "checkout");
        Script.Run(checkout, "chmod -R a-w .").Good();
        Assert.Equal($"sluice: it must be built first, and {checkout}/artifacts/sluice cannot be written: run it once "
            + "as the owner, or in a copy of the checkout",
            Script.Run("/", $"{held}{checkout}/sluice", Variables()).OneLine());
        Script.Run(checkout, "chmod -R u+w . && ./sluice && chmod -R a-w .", Variables()).Good();
        Outcome outcome = Script.Run("/", $"{held}{checkout}/sluice x", Variables());
        Assert.Equal(("one x", ""), (outcome.Good(), outcome.Error));

        Script.Run(checkout, "chmod -R u+w . && chmod a-r src/Sluice.Cli/Program.cs").Good();
        Assert.Equal($"sluice: the sources in {checkout} cannot be read",
            Script.Run("/", $"{held}{checkout}/sluice", Variables()).OneLine());
    }

    // Seen failing: OutDir, and any other property that somebody's environment holds, reached the build.
    [Fact]
    public void TheEnvironmentDoesNotReachTheBuild()
    {
        (string, string?)[] foreign =
        [
            ("OutDir", "/nowhere/"), ("PLATFORM", "x86"), ("configuration", "Debug"),
            ("baseintermediateoutputpath", "/no/"), ("MSBUILDSINGLELOADCONTEXT", "1"), ("MSBuildSDKsPath", "/no"),
            ("CustomBeforeMicrosoftCommonProps", "/no"), ("UseSharedCompilation", "true"),
            ("MSBUILDDISABLENODEREUSE", "0"),
            ("DOTNET_CLI_USE_MSBUILD_SERVER", "1"), ("TreatWarningsAsErrors", "true"), ("LC_ALL", "tr_TR.UTF-8"),
            ("https_proxy", "http://proxy"), ("NUGET_PACKAGES", "/packages"), ("DOTNET_ROOT", "/sdk"),
        ];
        Script.Run("/", Script.Quote(_folder.Path + "/checkout/sluice"), [.. Variables(), .. foreign]).Good();
        string[] seen = [.. File.ReadAllLines(Home("environment")).Select(static line => line.Split('=')[0])];
        string[] allowed = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "CI", "LD_LIBRARY_PATH",
            "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_", "MSBUILDDISABLENODEREUSE"];
        string[] families =
            ["DOTNET_", "NUGET_", "XDG_", "SSL_CERT_", "http", "no_proxy", "NO_PROXY", "HTTP", "all", "ALL"];
        Assert.All(seen.Except(allowed), name =>
            Assert.Contains(families, family => name.StartsWith(family, StringComparison.Ordinal)));
        string[] lines = File.ReadAllLines(Home("environment"));
        foreach (string line in (string[])["MSBUILDDISABLENODEREUSE=1", "DOTNET_CLI_USE_MSBUILD_SERVER=0",
            "https_proxy=http://proxy", "NUGET_PACKAGES=/packages", "DOTNET_ROOT=/sdk", "LC_ALL=C.UTF-8"])
        {
            Assert.Contains(line, lines);
        }
        string built = File.ReadAllText(Home("built"));
        foreach (string option in (string[])["-nodeReuse:false", "-p:UseSharedCompilation=false", "-noAutoResponse",
            "-c Release"])
        {
            Assert.Contains(option, built, StringComparison.Ordinal);
        }
    }

    // Seen failing: "find: No such file or directory", and the old program ran.
    [Fact]
    public void WithoutDotnetOrSourcesItIsOneLine()
    {
        Script.Run(_folder.Path, "mkdir tools; for tool in bash dirname readlink find sort xargs sha256sum cut rm; do "
            + "ln -s \"$(command -v $tool)\" tools; done").Good();
        string line = Script.Run(
            _folder.Path, "checkout/sluice", [.. Variables(), ("PATH", _folder.Path + "/tools")]).OneLine();
        Assert.Equal("sluice: the .NET 10 SDK is needed to build: 'dotnet' is not on the PATH", line);
        Directory.Delete(Path.Combine(_folder.Path, "checkout/src"), recursive: true);
        Assert.Equal($"sluice: the sources in {_folder.Path}/checkout cannot be read", Sluice("").OneLine());
    }

    // Builds of earlier states stay for those who run them; but not for ever. Seen failing: nothing taken away.
    [Fact]
    public void OnlyTheLastBuildsAreKept()
    {
        for (int state = 0; state < 6; state++)
        {
            _folder.Write("checkout/src/Sluice.Cli/Program.cs", $"state-{state}");
            Assert.Equal($"state-{state}", Sluice("").Good());
        }
        Assert.Equal(4, BuildFolders().Length);
    }

    // Seen failing: the build just made was taken away as the oldest, since the others were made while the clock was
    // ahead.
    [Fact]
    public void TheBuildJustMadeIsKeptWhateverTheClockSays()
    {
        for (int state = 0; state < 6; state++)
        {
            _folder.Write("checkout/src/Sluice.Cli/Program.cs", $"state-{state}");
            Assert.Equal($"state-{state}", Sluice("").Good());
            foreach (string build in BuildFolders()) { Directory.SetLastWriteTimeUtc(build, new(2099, 1, 1)); }
        }
        Assert.Equal(4, BuildFolders().Length);
    }

    // Seen failing: earlier builds removed under the names by which they are run.
    [Fact]
    public void ABuildThatIsRemovedLosesItsNameFirst()
    {
        _folder.Write("programs/rm", "#!/bin/bash\nprintf '%s\\n' \"$@\" >> \"$HOME/removed\"\nexec /bin/rm \"$@\"\n",
            executable: true);
        for (int state = 0; state < 5; state++)
        {
            _folder.Write("checkout/src/Sluice.Cli/Program.cs", $"state-{state}");
            Sluice("").Good();
        }
        Assert.Equal(4, BuildFolders().Length);
        Assert.All(File.ReadAllLines(Home("removed")), static name => Assert.DoesNotMatch("(^|/)[0-9a-f]{16}$", name));
    }

    // Seen failing: "cannot move the build", since the folder was not empty, until somebody removed it by hand.
    [Fact]
    public void TheRestOfABuildIsReplaced()
    {
        Sluice("").Good();
        string build = Assert.Single(BuildFolders());
        File.Move(Path.Combine(build, "Sluice.Cli"), Path.Combine(build, "rest"));
        Assert.Equal("one", Sluice("").Good());
        Assert.Equal(["Sluice.Cli"], Directory.EnumerateFileSystemEntries(build).Select(Path.GetFileName));
    }

    // Seen failing: the lock's descriptor left open: a run in one window held up every build in another until it ended.
    [Fact]
    public void TheCommandDoesNotHoldTheLock()
    {
        Dotnet("sleep 1" + Builds.Replace("echo %s \"$@\"", "ls -l /proc/$$/fd # %s", StringComparison.Ordinal));
        // The second waits for the first one's build, and has the lock then.
        string[] open = Sluice("& checkout/sluice; wait").Outputs;
        Assert.Contains(open, static line => line.Contains("/dev/", StringComparison.Ordinal)
            || line.Contains("pipe:", StringComparison.Ordinal));
        Assert.DoesNotContain(open, static line => line.Contains("sluice/.lock", StringComparison.Ordinal));
    }

    private string[] BuildFolders() =>
        Directory.GetDirectories(Path.Combine(_folder.Path, "checkout/artifacts/sluice"), "????????????????");

    private int BuildCount() => File.ReadAllLines(Home("built")).Length;

    private string Home(string name) => Path.Combine(_folder.Path, "home", name);

    private void Dotnet(string body)
    {
        Directory.CreateDirectory(Path.Combine(_folder.Path, "home"));
        _folder.Write("programs/dotnet", "#!/bin/bash\n" + body + "\n", executable: true);
    }

    private Outcome Sluice(string arguments) => Script.Run(_folder.Path, "checkout/sluice " + arguments, Variables());

    private (string, string?)[] Variables() =>
    [
        ("HOME", Path.Combine(_folder.Path, "home")),
        ("PATH", Path.Combine(_folder.Path, "programs") + ":" + Environment.GetEnvironmentVariable("PATH")),
    ];
}
