using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text.Json.Nodes;
using Sluice.Dma;
using Sluice.Remapping;

namespace Sluice.Cli.Run;

/// <summary>
/// Lets a device and its driver misbehave and looks at what came of it. Evidence, not belief: whether an attack got
/// through is read from memory and from the device's own buffer; whether it was logged, from the reports that arrived.
/// </summary>
internal sealed class RogueLab : IDisposable
{
    private const int PageBytes = 4096;
    private static readonly TimeSpan ReportPatience = TimeSpan.FromSeconds(2);
    private readonly Pc _pc;
    private readonly InvalidationPolicy _policy;
    private readonly BlockingCollection<DmaReport> _reports = new(new ConcurrentQueue<DmaReport>());

    /// <summary>A lab on a booted PC.</summary>
    public RogueLab(Pc pc, InvalidationPolicy policy)
    {
        (_pc, _policy) = (pc, policy);
        _pc.Dma.Reported += _reports.Add;
    }

    /// <summary>Runs the cases one after the other.</summary>
    public IReadOnlyList<RogueOutcome> Run(IReadOnlyList<RogueCase> cases) => [.. cases.Select(Run)];

    private RogueOutcome Run(RogueCase rogue)
    {
        LoadDevice(Fill(seed: 100 + (int)rogue));
        // Last, so that a stale address is struck while it is as fresh as in a real race.
        using RogueScene scene = RogueScene.Set(_pc, rogue);
        while (_reports.TryTake(out _)) { }

        // One thousand and twenty-four bytes: small enough to lie in a page, large enough to cross one in the overrun.
        const int AttackBytes = 1024;
        _pc.Edu.TransferRaw(scene.Target, AttackBytes, scene.Writes ? DmaDirection.FromDevice : DmaDirection.ToDevice);

        DmaReport? report = AwaitReport(scene.Blame);
        RogueChange? change = scene.Change();
        bool memoryUnchanged = change is null && _pc.Kernel.Check().Count == 0;
        // Repaired before the device is used again: its interrupt goes through the table that was attacked.
        _pc.Kernel.Repair();
        byte[] loot = scene.Writes ? [] : UnloadDevice()[..AttackBytes];
        bool blocked = scene.Writes ? memoryUnchanged : !scene.Holds(loot);
        RogueOutcome outcome = new(
            rogue.Name(), blocked, report is not null, memoryUnchanged,
            report is null ? null : JsonNode.Parse(report.ToJson()))
        {
            ReportText = report?.ToString() ?? "",
            Changed = change,
            Taken = scene.Writes || blocked ? null : Convert.ToHexStringLower(loot, 0, RogueScene.ShownBytes),
        };
        return outcome with { Reason = Explain(rogue, outcome) };
    }

    // A person who sees status 2 wants to know whose doing it is.
    private string? Explain(RogueCase rogue, RogueOutcome outcome) => (outcome, rogue, _policy) switch
    {
        ({ IsContained: true }, _, _) => null,
        _ when !_pc.HasUnit => "no remapping unit stands between the device and memory",
        ({ Blocked: false }, RogueCase.Stale, InvalidationPolicy.Deferred) =>
            "under the deferred policy a buffer that was taken back stays reachable until the next flush",
        ({ Blocked: true, Logged: false, MemoryUnchanged: true }, RogueCase.Stale, InvalidationPolicy.Shadow) =>
            "under the shadow policy the address leads to a copy that stays mapped: the device wrote the copy and never "
            + "the buffer, so nothing was refused and nothing is logged",
        ({ Blocked: false }, _, _) => "the remapping unit let it through",
        ({ MemoryUnchanged: false }, _, _) => "it was refused, and memory changed all the same",
        _ => $"it did no harm, and no report of it arrived within {ReportPatience.TotalSeconds:0} s",
    };

    private DmaReport? AwaitReport(LogicalAddress page)
    {
        if (!_pc.HasUnit) { return null; }
        long start = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(start) < ReportPatience)
        {
            if (_reports.TryTake(out DmaReport? report, ReportPatience)
                && report.Fault.Device == _pc.EduAdapter.Device
                && report.Fault.Address.AlignDown(12) == page.AlignDown(12))
            {
                return report;
            }
            // A case that was not refused at all has nothing to wait for.
            if (report is null) { break; }
        }
        return null;
    }

    private void LoadDevice(byte[] content)
    {
        using Mdl buffer = Mdl.Allocate(_pc.Machine, PageBytes);
        buffer.CopyFrom(0, content);
        _pc.Edu.CopyIn(buffer, 0, PageBytes);
    }

    private byte[] UnloadDevice()
    {
        using Mdl buffer = Mdl.Allocate(_pc.Machine, PageBytes);
        _pc.Edu.CopyOut(buffer, 0, PageBytes);
        byte[] content = new byte[PageBytes];
        buffer.CopyTo(0, content);
        return content;
    }

    private static byte[] Fill(int seed)
    {
        byte[] bytes = new byte[PageBytes];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    /// <summary>Stops listening.</summary>
    public void Dispose()
    {
        _pc.Dma.Reported -= _reports.Add;
        _reports.Dispose();
    }
}
