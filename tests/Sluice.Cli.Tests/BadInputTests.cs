using System.Net.Sockets;

namespace Sluice.Cli.Tests;

/// <summary>Bad input gets one clear line, exit 1, and nothing half done.</summary>
public sealed class BadInputTests
{
    // Seen failing: words in brackets before the verb, which the parser drops.
    [Theory]
    [InlineData("--iommu does not know 'vtdd'", "run", "--iommu", "vtdd")]
    [InlineData("--iommu amdvi is not in this version", "run", "--iommu", "amdvi")]
    [InlineData("--policy does not know 'lazy'", "run", "--policy", "lazy")]
    [InlineData("--machine does not know 'vax'", "run", "--machine", "vax")]
    [InlineData("--rogue does not know 'melt'", "run", "--rogue", "kernel,melt")]
    [InlineData("--rogue needs all, or a case", "run", "--rogue", "")]
    [InlineData("--memory 'lots' is not a size", "run", "--memory", "lots")]
    [InlineData("memory too large: 17592186044416 bytes", "run", "--memory", "16T")]
    [InlineData("there is no command '@x'", "@x")]
    [InlineData("'@x'", "run", "@x")]
    [InlineData("@/dev/zero", "run", "--disk", "@/dev/zero")]
    [InlineData("no name was given", "run", "--disk", "")]
    [InlineData("--machine does not know '\\u001b[2J'", "run", "--machine", "\u001b[2J")]
    [InlineData("memory", "run", "--memory", "1M")]
    [InlineData("memory", "run", "--memory", "64M1")]
    [InlineData("memory", "run", "--memory", "100000001")]
    [InlineData("--memory 1G leaves nothing above 4 GiB to bounce", "run", "--bounce", "--memory", "1G")]
    [InlineData("there is no command '[suggest]'", "[suggest]", "run")]
    [InlineData("there is no command '[x:1]'", "[x:1]", "bench", "--list")]
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

    // Seen failing: the file opened before anybody looked what it is: a pipe that nobody writes to hung for ever.
    [Theory]
    [InlineData("is a pipe")]
    [InlineData("is a socket")]
    [InlineData("is a character device")]
    [InlineData("is a folder")]
    public void WhatIsNoFileOfBytesIsNotOpened(string expected)
    {
        string folder = Directory.CreateTempSubdirectory("sluice-kinds").FullName;
        string path = Path.Combine(folder, "it");
        using Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            if (expected.EndsWith("pipe", StringComparison.Ordinal))
            {
                ChildProcess.Run("mkfifo", path).Good();
            }
            else if (expected.EndsWith("socket", StringComparison.Ordinal)) { socket.Bind(new UnixDomainSocketEndPoint(path)); }
            else { File.CreateSymbolicLink(path, expected.EndsWith("device", StringComparison.Ordinal) ? "/dev/zero" : folder); }
            string[][] lines =
            [
                ["run", "--disk", path], ["walk", "--image", path, "--format", "x86", "--root", "0"],
                ["machine", "--qtest", "/no/such", "--device", $"nvme,disk={path}"],
            ];
            foreach (string[] words in lines)
            {
                string line = SluiceProcess.Run(words).SingleErrorLine();
                Assert.Contains(path, line, StringComparison.Ordinal);
                Assert.Contains(expected, line, StringComparison.Ordinal);
            }
        }
        finally { Directory.Delete(folder, recursive: true); }
    }

    // Seen failing: QEMU's overlay of the disk in a full folder; its memory in a file with holes there, which ended QEMU.
    [Fact]
    public void FullFoldersDoNotMatterToQemu()
    {
        QemuRunTests.RequireQemu();
        if (Environment.UserName != "root" || !File.Exists("/usr/bin/unshare"))
        {
            Assert.Skip("needs root and unshare to mount small file systems of its own");
            return;
        }
        DirectoryInfo folder = Directory.CreateTempSubdirectory("sluice-small");
        using TemporaryFile disk = new(100_000);
        string shell = $"mount -t tmpfs -o size=64k none /dev/shm && mount -t tmpfs -o size=64k none '{folder.FullName}' || exit 77; "
            + $"export TMPDIR='{folder.FullName}' DOTNET_EnableDiagnostics=0; exec \"$@\"";
        Outcome outcome = SluiceProcess.Run(
            $"exec unshare -m sh -c '{shell.Replace("'", "'\\''", StringComparison.Ordinal)}' sh \"$@\"",
            ["run", "--machine", "qemu", "--disk", disk.Path, "--json"]);
        folder.Delete();
        Assert.SkipWhen(outcome.ExitCode == 77 || outcome.Error.Contains("unshare", StringComparison.Ordinal),
            "no file system may be mounted here");
        Assert.Equal((0, ""), (outcome.ExitCode, outcome.Error));
        Assert.Equal(disk.Sha256, outcome.Json.GetProperty("disk").GetProperty("sha256").GetString());
    }

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

    // Seen failing: the folder that the disk is made in stayed, when memory for it was refused.
    [Fact]
    public void NoRoomForTheDiskThatIsMade()
    {
        // A limit on file size stands in for a full disk: both fail in the middle of writing.
        DirectoryInfo folder = Directory.CreateTempSubdirectory("sluice-full");
        string shell = $"export TMPDIR='{folder.FullName}' DOTNET_EnableDiagnostics=0; trap '' XFSZ; ulimit -f 100; exec \"$@\"";
        SluiceProcess.Run(shell, ["run"]).SingleErrorLine();
        Assert.Empty(folder.EnumerateFileSystemInfos());
        folder.Delete(recursive: true);
    }
}
