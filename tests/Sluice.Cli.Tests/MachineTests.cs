using System.Net.Sockets;
using System.Text;
using Sluice.Iommu.Vtd;

namespace Sluice.Cli.Tests;

/// <summary><c>sluice machine</c> answers a qtest client that listens, and ends with it.</summary>
public sealed class MachineTests
{
    [Fact]
    public async Task AClientFindsTheDevicesAndTheUnit()
    {
        using TemporaryFile disk = new(1 << 20);
        (Socket listening, string path) = Listen();
        using Socket listener = listening;
        Task<Outcome> served = Task.Run(() => SluiceProcess.Run(
            "machine", "--qtest", path, "--device", "edu,addr=5.0", "--device", $"nvme,disk={disk.Path},addr=6.0",
            "--json"));
        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(30));
        using (Socket client = await listener.AcceptAsync(limit.Token))
        {
            File.Delete(path);
            using NetworkStream stream = new(client);
            using StreamReader answers = new(stream, Encoding.ASCII);
            async Task<string?> Ask(string line)
            {
                await stream.WriteAsync(Encoding.ASCII.GetBytes(line + "\n"), limit.Token);
                return await answers.ReadLineAsync(limit.Token);
            }

            Assert.Equal("OK", await Ask("outl 0xcf8 0x80002800"));
            Assert.Equal("OK 0x11e81234", await Ask("inl 0xcfc"));
            Assert.Equal("OK", await Ask("outl 0xcf8 0x80003000"));
            Assert.Equal("OK 0x101b36", await Ask("inl 0xcfc"), ignoreCase: true);
            Assert.Equal($"OK 0x{VtdOptions.Qemu.Capability.Word:x16}", await Ask("readq 0xfed90008"), ignoreCase: true);
            Assert.StartsWith("FAIL ", await Ask("sing"), StringComparison.Ordinal);
        }
        Outcome outcome = await served.WaitAsync(limit.Token);
        Assert.Equal("", outcome.Error);
        Assert.Equal(path, outcome.Json.GetProperty("socket").GetString());
        Assert.Contains("edu 0000:00:05.0", outcome.Json.GetProperty("functions").EnumerateArray()
            .Select(static f => $"{f.GetProperty("name")} {f.GetProperty("address")}"));
        Assert.Equal(0, outcome.ExitCode);
    }

    // Seen failing: addr taken without 0x alone; quit that ended the monitor and not the machine.
    [Fact]
    public async Task TheMonitorResetsAndEndsTheMachine()
    {
        (Socket first, string path) = Listen();
        (Socket second, string monitorPath) = Listen();
        using Socket listener = first, monitorListener = second;
        Task<Outcome> served = Task.Run(() => SluiceProcess.Run(
            "machine", "--qtest", path, "--qmp", monitorPath, "--device", "iommu-testdev,addr=0x5",
            "--device", "edu,addr=0x1e.0x7", "--json"));
        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(60));
        using Socket client = await listener.AcceptAsync(limit.Token);
        using Socket monitorClient = await monitorListener.AcceptAsync(limit.Token);
        File.Delete(path);
        File.Delete(monitorPath);
        using NetworkStream monitor = new(monitorClient);
        using StreamReader heard = new(monitor, Encoding.UTF8);
        await monitor.WriteAsync("""{"execute":"qmp_capabilities"}{"execute":"system_reset"}{"execute":"quit"}"""u8.ToArray(),
            limit.Token);
        string[] wanted = ["QMP", "return", "RESET", "return", "return", "SHUTDOWN"];
        foreach (string word in wanted)
        {
            Assert.Contains(word, await heard.ReadLineAsync(limit.Token), StringComparison.Ordinal);
        }
        Outcome outcome = await served.WaitAsync(limit.Token);
        Assert.Equal((0, ""), (outcome.ExitCode, outcome.Error));
        Assert.Equal(["host-bridge 0000:00:00.0", "iommu-testdev 0000:00:05.0", "edu 0000:00:1e.7",
            "lpc-bridge 0000:00:1f.0"], outcome.Json.GetProperty("functions").EnumerateArray()
            .Select(static f => $"{f.GetProperty("name")} {f.GetProperty("address")}"));
    }

    private static (Socket Listener, string Path) Listen()
    {
        string path = Path.Combine(Path.GetTempPath(), $"sq{Guid.NewGuid():N}"[..20]);
        Socket listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen(1);
        return (listener, path);
    }

    // Seen failing: "nobody listens on :" for a socket without a name.
    [Theory]
    [InlineData("does not know 'sound'", "--qtest", "/tmp/none", "--device", "sound")]
    [InlineData("needs disk=FILE", "--qtest", "/tmp/none", "--device", "nvme")]
    [InlineData("no property 'colour'", "--qtest", "/tmp/none", "--device", "edu,colour=blue")]
    [InlineData("addr=40.0", "--qtest", "/tmp/none", "--device", "edu,addr=40.0")]
    [InlineData("addr=0x20", "--qtest", "/tmp/none", "--device", "edu,addr=0x20")]
    [InlineData("addr=5.8", "--qtest", "/tmp/none", "--device", "edu,addr=5.8")]
    [InlineData("addr=5.0.0", "--qtest", "/tmp/none", "--device", "edu,addr=5.0.0")]
    [InlineData("addr=-5", "--qtest", "/tmp/none", "--device", "edu,addr=-5")]
    [InlineData("no property 'disk'", "--qtest", "/tmp/none", "--device", "iommu-testdev,disk=x")]
    [InlineData("/no/such", "--qtest", "/tmp/none", "--device", "nvme,disk=/no/such")]
    [InlineData("'/no/a,b=c,': No such file", "--qtest", "/tmp/none", "--device", "nvme,disk=/no/a,,b=c,,,addr=5.0")]
    [InlineData("/no/such/socket: start the client first", "--qtest", "/no/such/socket")]
    [InlineData("a socket has a name: none was given", "--qtest", "")]
    [InlineData("--iommu dart is not in this version", "--qtest", "/tmp/none", "--iommu", "dart")]
    [InlineData("--qtest", "--device", "edu")]
    public void BadWordsGetOneLine(string expected, params string[] words) =>
        Assert.Contains(expected, SluiceProcess.Run(["machine", .. words]).SingleErrorLine(), StringComparison.Ordinal);
}
