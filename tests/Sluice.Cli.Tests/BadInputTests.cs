namespace Sluice.Cli.Tests;

/// <summary>Bad input gets one clear line, exit 1, and nothing half done.</summary>
public sealed class BadInputTests
{
    [Theory]
    [InlineData("--iommu does not know 'vtdd'", "run", "--iommu", "vtdd")]
    [InlineData("--iommu amdvi is not in this version", "run", "--iommu", "amdvi")]
    [InlineData("--policy does not know 'lazy'", "run", "--policy", "lazy")]
    [InlineData("--machine does not know 'vax'", "run", "--machine", "vax")]
    [InlineData("--rogue does not know 'melt'", "run", "--rogue", "kernel,melt")]
    [InlineData("--rogue needs all, or a case", "run", "--rogue", "")]
    [InlineData("--memory 'lots' is not a size", "run", "--memory", "lots")]
    [InlineData("memory", "run", "--memory", "1M")]
    [InlineData("memory", "run", "--memory", "64M1")]
    [InlineData("memory", "run", "--memory", "100000001")]
    [InlineData("--memory 1G leaves nothing above 4 GiB to bounce", "run", "--bounce", "--memory", "1G")]
    [InlineData("'--frobnicate'", "run", "--frobnicate")]
    [InlineData("'dance'", "dance")]
    [InlineData("no row begins with 'nothing'", "bench", "nothing")]
    public void WordsThatMeanNothing(string expected, params string[] arguments) =>
        Assert.Contains(expected, SluiceProcess.Run(arguments).SingleErrorLine(), StringComparison.Ordinal);

    [Fact]
    public void ADiskThatIsNotThere() =>
        Assert.Contains(
            "/no/such/disk.img",
            SluiceProcess.Run("run", "--disk", "/no/such/disk.img").SingleErrorLine(),
            StringComparison.Ordinal);

    [Fact]
    public void ADiskThatIsEmpty()
    {
        using TemporaryFile disk = new(0);
        Outcome outcome = SluiceProcess.Run("run", "--disk", disk.Path);
        Assert.Contains("empty", outcome.SingleErrorLine(), StringComparison.Ordinal);
    }

    [Fact]
    public void ADiskThatIsAFolder() =>
        Assert.Contains(
            Path.GetTempPath(),
            SluiceProcess.Run("run", "--disk", Path.GetTempPath()).SingleErrorLine(),
            StringComparison.Ordinal);

    // Seen failing: the command run as another user, who may not enter the folder that the checkout lies in.
    [Fact]
    public void ADiskThatMayNotBeRead()
    {
        if (OperatingSystem.IsWindows()) { Assert.Skip("file modes are Unix's"); return; }
        // Root may read every file: it stays root, since the checkout may be for root alone, but gives up that right.
        bool isRoot = Environment.UserName == "root";
        Assert.SkipWhen(isRoot && !File.Exists("/usr/bin/setpriv"), "root needs setpriv to give up the right to read every file");
        string shell = isRoot ? "exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"" : "exec \"$@\"";
        Assert.SkipUnless(SluiceProcess.Run(shell, ["--version"]).ExitCode == 0, "the checkout belongs to somebody else than root");
        using TemporaryFile disk = new(4096);
        File.SetUnixFileMode(disk.Path, UnixFileMode.None);
        Outcome outcome = SluiceProcess.Run(shell, ["run", "--disk", disk.Path]);
        Assert.Contains(disk.Path, outcome.SingleErrorLine(), StringComparison.Ordinal);
    }

    [Fact]
    public void NoRoomForTheDiskThatIsMade()
    {
        // A limit on file size stands in for a full disk: both fail in the middle of writing.
        DirectoryInfo folder = Directory.CreateTempSubdirectory("sluice-full");
        string shell = $"export TMPDIR='{folder.FullName}'; trap '' XFSZ; ulimit -f 100; exec \"$@\"";
        SluiceProcess.Run(shell, ["run"]).SingleErrorLine();
        Assert.Empty(folder.GetFiles("sluice-*"));
        folder.Delete(recursive: true);
    }
}
