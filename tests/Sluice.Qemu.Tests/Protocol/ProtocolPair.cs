using System.Net.Sockets;
using Sluice.Machines;
using Sluice.Machines.Qemu;
using Sluice.Machines.Qtest;

namespace Sluice.Qemu.Tests.Protocol;

/// <summary>
/// QEMU and our machine behind one qtest client each: edu at 00:05.0 and iommu-testdev at 00:07.0 on both, further
/// devices from 00:08.0 on.
/// </summary>
internal sealed class ProtocolPair : IDisposable
{
    private static readonly char[] Digits = [.. "0123456789"];
    private readonly string _folder = Directory.CreateTempSubdirectory("sq").FullName;
    private readonly QemuMachine _qemu;
    private readonly ServedMachine _ours;

    public ProtocolPair(
        bool withMonitor = false, MachineIommu iommu = MachineIommu.Vtd, int? processor = null,
        (string Theirs, PciDevice Ours)[]? devices = null, params string[] arguments)
    {
        string monitor = Path.Combine(_folder, "m");
        using Socket? listener = withMonitor ? ServedMachine.Listen(monitor) : null;
        _qemu = QemuMachine.Start(new()
        {
            Launcher = Qemu.Require(), MemoryBytes = 64 << 20, Iommu = iommu, Processor = processor,
            Devices =
            [
                "edu,addr=5.0,dma_mask=0xffffffffffffffff", "iommu-testdev,addr=7.0",
                .. (devices ?? []).Select(static d => d.Theirs),
            ],
            Arguments = [.. arguments, .. withMonitor ? (string[])["-qmp", $"unix:{monitor}"] : []],
        });
        if (listener is not null) { TheirMonitor = new(listener.Accept()); }
        _ours = new(withMonitor, iommu, [.. (devices ?? []).Select(static d => d.Ours)]);
    }

    public MonitorClient? TheirMonitor { get; }

    public MonitorClient? OurMonitor => _ours.Monitor;

    /// <summary>What both answer to a line; a line that is not answered is followed by one that is.</summary>
    public (string Theirs, string Ours) Ask(string line) => (Ask(_qemu.Qtest, line), Ask(_ours.Client, line));

    /// <summary>Lines for one side each.</summary>
    public void AskApart(IEnumerable<string> theirs, IEnumerable<string> ours)
    {
        foreach (string line in theirs) { Ask(_qemu.Qtest, line); }
        foreach (string line in ours) { Ask(_ours.Client, line); }
    }

    /// <summary>Sends the lines to both; those that are answered differently.</summary>
    /// <param name="lines">The lines.</param>
    /// <param name="withTime">Compare what time it is after the clock was moved, too.</param>
    public List<string> Differ(IEnumerable<string> lines, bool withTime = true)
    {
        List<string> wrong = [];
        foreach (string line in lines)
        {
            (string theirs, string ours) = Ask(line);
            if (!withTime && line.StartsWith("clock", StringComparison.Ordinal))
            {
                (theirs, ours) = (theirs.TrimEnd(Digits), ours.TrimEnd(Digits));
            }
            if (theirs != ours) { wrong.Add($"{Short(line)}: QEMU {Short(theirs)}, ours {Short(ours)}"); }
        }
        return wrong;
    }

    public void Dispose()
    {
        _ours.Dispose();
        TheirMonitor?.Dispose();
        _qemu.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    public static string Ask(QtestClient client, string line)
    {
        string answer;
        try { answer = client.Command(line); }
        catch (QtestException e) { answer = e.Message; }
        while (client.TryTakeInterrupt(out QtestInterrupt wire))
        {
            // Input 0 is QEMU's timer (V in docs/differences.md).
            if (wire.Line != 0) { answer += $" wire {wire.Line} {wire.IsRaised}"; }
        }
        return answer;
    }

    private static string Short(string text) => text.Length < 160 ? text : text[..160] + "…";
}
