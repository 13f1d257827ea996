namespace Sluice.Scripts.Tests;

/// <summary><c>./test</c> with stand-ins for dotnet and for the test programs.</summary>
public sealed class TestScriptTests : IDisposable
{
    private readonly Folder _folder = new();

    public TestScriptTests()
    {
        foreach (string name in (string[])["test", "eng/build.sh"])
        {
            _folder.Write("checkout/" + name, File.ReadAllText(Path.Combine(Script.Root, name)), name == "test");
        }
        _folder.Write(
            "programs/dotnet",
            "#!/bin/bash\nenv > \"$HOME/environment\"\necho \"$PWD $*\" > \"$HOME/built\"\n",
            executable: true);
        Directory.CreateDirectory(Path.Combine(_folder.Path, "home"));
    }

    public void Dispose() => _folder.Dispose();

    // Seen failing: the names stood among thousands of lines above the count; a project that died, hung or was not
    // built had none.
    [Fact]
    public void TheLastLinesNameWhatFailed()
    {
        Project("Good", "printf '%s\\n' 'passed A.B (1ms)' 'skipped A.C (0ms)' '  no tool' "
            + "'  succeeded: 3' '  failed: 0' '  skipped: 1'");
        Project("Bad", """
            printf '%s\n' 'failed A.One(text: "a b") (12ms)' '  Assert.True() Failure' 'passed A.Two (1ms)'
            printf '%s\n' 'failed A.Three (1s 2ms)'
            printf '%s\n' '  succeeded: 1' '  failed: 2' '  skipped: 0'
            exit 2
            """);
        Project("Dead", "echo dying; exit 134");
        Project("Hung", "exec sleep 60");
        _folder.Write("checkout/tests/Lost.Tests/Lost.Tests.csproj", "");
        Outcome outcome = Test("", ("TEST_SECONDS", "1"));
        Assert.Equal(1, outcome.ExitCode);
        Assert.Equal(
        [
            "failed:",
            "  Bad.Tests: A.One(text: \"a b\") (12ms)",
            "  Bad.Tests: A.Three (1s 2ms)",
            "  Dead.Tests: ended with code 134 and named no test",
            "  Hung.Tests: was stopped after 1 s",
            "  Lost.Tests: was not built",
            "4 passed, 5 failed, 1 skipped",
        ], outcome.Outputs[^7..]);
        Assert.Contains("  no tool", outcome.Outputs);
    }

    // Seen failing: "failed:" over nothing.
    [Fact]
    public void NothingFailedIsOneLineAtTheEnd()
    {
        Project("Good", "printf '%s\\n' '  succeeded: 3' '  failed: 0' '  skipped: 0'");
        Assert.Equal("3 passed, 0 failed", Test("").Good().Split('\n')[^1]);
        Assert.DoesNotContain("failed:", Test("").Outputs);
    }

    // The SDK makes folders there at every build. Seen failing: they stayed, two a run.
    [Theory]
    [InlineData("exit 0")]
    [InlineData("exit 1")]
    [InlineData("kill -INT $PPID; sleep 1")]
    public void WhatABuildLeavesInItsTemporaryFolderIsGone(string end)
    {
        Project("Good", "printf '%s\\n' '  succeeded: 3' '  failed: 0' '  skipped: 0'");
        string build = "mkdir \"$TMPDIR/a1B2c3\" && echo made >> \"$HOME/made\"\n" + end;
        _folder.Write("programs/dotnet", "#!/bin/bash\n" + build + "\n", executable: true);
        string temporary = Directory.CreateDirectory(Path.Combine(_folder.Path, "tmp")).FullName;
        Test("", ("TMPDIR", temporary));
        Assert.True(File.Exists(Path.Combine(_folder.Path, "home/made")));
        Assert.Empty(Directory.EnumerateFileSystemEntries(temporary));
    }

    // Seen failing: counted and not named.
    [Fact]
    public void ABuildThatFailsIsNamed()
    {
        Project("Good", "exit 0");
        _folder.Write("programs/dotnet", "#!/bin/sh\necho 'error CS0000: no'; exit 1\n", executable: true);
        Assert.Equal(["error CS0000: no", "failed:", "  the build", "0 passed, 1 failed"], Test("").Outputs[^4..]);
    }

    // Seen failing: OutDir from the environment, after which no project "was built"; CDPATH, which made the root two
    // lines.
    [Fact]
    public void CallersEnvironmentsDoNotMatter()
    {
        Project("Iommu", "printf '%s\\n' '  succeeded: 3' '  failed: 0' '  skipped: 0'");
        Script.Run(_folder.Path, "ln -s checkout/test link").Good();
        foreach (string call in (string[])["checkout/test iommu", "CDPATH=.:/ checkout/test IOMMU", "./link ommu",
            "umask 077; ./link", "LANG=tr_TR.UTF-8 LC_ALL=tr_TR.UTF-8 checkout/test iommu",
            "OutDir=/no/ Platform=x86 checkout/test"])
        {
            Assert.Equal("3 passed, 0 failed", Script.Run(_folder.Path, call, Variables()).Good().Split('\n')[^1]);
        }
        string seen = File.ReadAllText(Path.Combine(_folder.Path, "home/environment"));
        Assert.DoesNotContain("OutDir", seen, StringComparison.Ordinal);
        Assert.DoesNotContain("Platform", seen, StringComparison.Ordinal);
        string built = File.ReadAllText(Path.Combine(_folder.Path, "home/built"));
        Assert.StartsWith(_folder.Path + "/checkout build Sluice.slnx -c Release", built, StringComparison.Ordinal);
        Assert.Contains("-nodeReuse:false -p:UseSharedCompilation=false", built, StringComparison.Ordinal);
    }

    // Seen failing: pages of MSBuild's words.
    [Fact]
    public void APathThatMsbuildCannotTakeIsOneLine()
    {
        Project("Good", "exit 0");
        string odd = _folder.Path + "/a;b";
        Script.Run(_folder.Path, "mv checkout 'a;b'").Good();
        Assert.Equal($"test: MSBuild takes one of ' \" ; : * ? $ @ %41 in a path for its own: move {odd}",
            Script.Run("/", Script.Quote(odd + "/test"), Variables()).OneLine());
    }

    // Seen failing: 'timeout' took the test program out of the terminal's group, so that Ctrl-C left it running.
    [Fact]
    public void AnInterruptReachesTheTests()
    {
        Project("Slow", "echo $$ > \"$HOME/slow\"; exec sleep 600");
        Assert.Equal("", Script.Run(_folder.Path, """
            set -m
            checkout/test > log 2>&1 & group=$!
            for _ in {1..600}; do [ -s home/slow ] && break; sleep 0.1; done
            kill -INT -- -$group
            for _ in {1..100}; do kill -0 "$(cat home/slow)" 2>/dev/null || exit 0; sleep 0.1; done
            echo "it runs on"; kill -KILL "$(cat home/slow)"
            """, Variables()).Good());
    }

    private void Project(string name, string body)
    {
        _folder.Write($"checkout/tests/{name}.Tests/{name}.Tests.csproj", "");
        _folder.Write(
            $"checkout/tests/{name}.Tests/bin/Release/net10.0/{name}.Tests", "#!/bin/bash\n" + body + "\n",
            executable: true);
    }

    private Outcome Test(string words, params (string, string?)[] more) =>
        Script.Run(_folder.Path, "checkout/test " + words, [.. Variables(), .. more]);

    private (string, string?)[] Variables() =>
    [
        ("HOME", Path.Combine(_folder.Path, "home")), ("CONFIGURATION", null), ("TEST_SECONDS", null),
        ("PATH", Path.Combine(_folder.Path, "programs") + ":" + Environment.GetEnvironmentVariable("PATH")),
    ];
}
