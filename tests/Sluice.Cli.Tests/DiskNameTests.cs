using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;

namespace Sluice.Cli.Tests;

/// <summary>A disk's name is a name, whatever QEMU would read into it; nothing but that file is opened.</summary>
public sealed class DiskNameTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("sluice-names").FullName;

    public DiskNameTests()
    {
        // What a name would lead to that is taken for more than a name.
        File.WriteAllBytes(Path.Combine(_folder, "x"), new byte[512]);
        Directory.CreateDirectory(Path.Combine(_folder, "dir"));
        File.WriteAllText(Path.Combine(_folder, "dir", "decoy"), "another disk");
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    // Seen failing: the name in QEMU's -drive file=: file:x read x, fat:dir a disk that QEMU made up, json:{…} was parsed.
    [Theory]
    [InlineData("file:x")]
    [InlineData("fat:dir")]
    [InlineData("fat:rw:dir")]
    [InlineData("json:{\"driver\":\"null-co\",\"size\":4096}")]
    [InlineData("a,b,,readonly=on")]
    [InlineData("two\nlines\t")]
    [InlineData("-dash")]
    [InlineData("@x")]
    [InlineData("%20 'quotes\" \\u0041;$(false)")]
    public void TheFileOfThatNameIsRead(string name)
    {
        QemuRunTests.RequireQemu();
        AssertRead(name, Content(seed: 5));
    }

    // Seen failing: the name in QEMU's -drive file=: QEMU connected.
    [Fact]
    public void NothingIsConnectedTo()
    {
        QemuRunTests.RequireQemu();
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        AssertRead($"nbd:127.0.0.1:{((IPEndPoint)listener.LocalEndpoint).Port}", Content(seed: 6));
        Assert.False(listener.Pending());
    }

    // A disk that holds the header of an image format is that header, not the image: it may name any file as what lies
    // behind it. Seen failing: no format given, so that QEMU guesses one.
    [Fact]
    public void ContentIsNotLookedAt()
    {
        QemuRunTests.RequireQemu();
        byte[] image = Content(seed: 7);
        image.AsSpan(0, 512).Clear();
        // A qcow2 header, big-endian: magic, version 2, the backing file's name at 0x100, 64 KiB clusters, 4 MiB.
        Convert.FromHexString("514649fb00000002000000000000010000000001000000100000000000400000").CopyTo(image, 0);
        "x"u8.CopyTo(image.AsSpan(0x100));
        AssertRead("disk", image);
    }

    private static byte[] Content(int seed)
    {
        byte[] content = new byte[70_000];
        new Random(seed).NextBytes(content);
        return content;
    }

    private void AssertRead(string name, byte[] content)
    {
        File.WriteAllBytes(Path.Combine(_folder, name), content);
        Outcome outcome = SluiceProcess.Run(
            $"cd '{_folder}' && exec \"$@\"", ["run", "--machine", "qemu", "--json", $"--disk={name}"]);
        Assert.Equal("", outcome.Error);
        Assert.Equal(0, outcome.ExitCode);
        Assert.Equal(name, outcome.Json.GetProperty("disk").GetProperty("path").GetString());
        Assert.Equal(content.Length, outcome.Json.GetProperty("disk").GetProperty("bytes").GetInt64());
        Assert.Equal(
            Convert.ToHexStringLower(SHA256.HashData(content)),
            outcome.Json.GetProperty("disk").GetProperty("sha256").GetString());
    }
}
