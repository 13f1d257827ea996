using Sluice.Iommu;
using Sluice.Iommu.Vtd;
using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Promises.Tests;

/// <summary>
/// A machine full of things worth attacking: secret pages that are never mapped, pages that drivers map and take back
/// all the time, devices that come and go, and rogue devices that try everything.
/// </summary>
internal sealed class Arena : IDisposable
{
    public const ulong Secret = 0x5EC2E75E_C2E75EC2;
    public const ulong Canary = 0xCA4A21CA_4A21CA4A;
    public const ulong Venom = 0xDEADDEAD_DEADDEAD;
    public const int PageBytes = 4096;

    private readonly List<string> _breaches = [];

    public Arena(VtdOptions? vtd = null, int rogues = 3, int secrets = 64)
    {
        Machine = Machine.Create(new() { Iommu = MachineIommu.Vtd, Vtd = vtd ?? new(), MemoryBytes = 32UL << 20 });
        Rogues = [.. Enumerable.Range(0, rogues).Select(_ => Machine.Plug(new RogueDevice()))];
        foreach (PciFunction function in PciBus.Enumerate(Machine))
        {
            if (Rogues.Any(r => r.Address == function.Address)) { function.EnableBusMaster(); }
        }
        Remapping = RemappingSystem.Start(Machine, new(), Faults);
        Secrets = [.. Enumerable.Range(0, secrets).Select(_ => NewFrame(Secret))];
    }

    public Machine Machine { get; }

    public RemappingSystem Remapping { get; }

    public FaultCounter Faults { get; } = new();

    public RogueDevice[] Rogues { get; }

    /// <summary>Buffer pages that nobody ever maps.</summary>
    public PhysicalAddress[] Secrets { get; }

    /// <summary>What went wrong; empty is the promise.</summary>
    public IReadOnlyList<string> Breaches
    {
        get
        {
            lock (_breaches) { return [.. _breaches]; }
        }
    }

    public void Breach(string what)
    {
        lock (_breaches)
        {
            if (_breaches.Count < 20) { _breaches.Add(what); }
        }
    }

    public PhysicalAddress NewFrame(ulong content)
    {
        Assert.True(Machine.Frames.TryAllocate(FrameKind.Buffer, 12, out PhysicalAddress frame));
        Fill(frame, content);
        return frame;
    }

    public void Fill(PhysicalAddress frame, ulong content)
    {
        for (ulong at = 0; at < PageBytes; at += 8) { Machine.Memory.TryWrite64(frame + at, content); }
    }

    /// <summary>Where the page differs from <paramref name="content"/>, or -1.</summary>
    public int FirstOther(PhysicalAddress frame, ulong content)
    {
        for (ulong at = 0; at < PageBytes; at += 8)
        {
            Machine.Memory.TryRead64(frame + at, out ulong word);
            if (word != content) { return (int)at; }
        }
        return -1;
    }

    /// <summary>Secrets and kernel are as they were; every refused DMA is a record or a lost count.</summary>
    public void AssertKept()
    {
        foreach (PhysicalAddress secret in Secrets)
        {
            int at = FirstOther(secret, Secret);
            if (at >= 0) { Breach($"the secret page at {secret} changed at byte {at}"); }
        }
        foreach (KernelDamage damage in Machine.Kernel.Check()) { Breach($"kernel damage: {damage}"); }
        foreach (PhysicalAddress table in UnitTables())
        {
            for (ulong at = 0; at < PageBytes; at += 8)
            {
                if (Machine.Memory.TryRead64(table + at, out ulong word) && word == Venom)
                {
                    Breach($"the unit's table at {table} was written");
                }
            }
        }
        UnitCounters unit = Machine.Unit!.Counters;
        long accounted = unit.FaultsRecorded + unit.FaultsLost + unit.FaultsCompressed + unit.FaultsSuppressed;
        if (accounted != unit.Refused)
        {
            Breach($"{unit.Refused} refused, but {accounted} recorded or counted as lost");
        }
        long refused = Rogues.Sum(static r => r.Port.Refused);
        if (refused != unit.Refused) { Breach($"devices saw {refused} refusals, the unit {unit.Refused}"); }
        Assert.Empty(Breaches);
    }

    private IEnumerable<PhysicalAddress> UnitTables()
    {
        foreach (MemoryBank bank in Machine.Memory.Banks.ToArray())
        {
            for (PhysicalAddress page = bank.First; page <= bank.Range.Last; page += PageBytes)
            {
                if (Machine.Frames.KindOf(page) == FrameKind.UnitTable) { yield return page; }
            }
        }
    }

    public void Dispose()
    {
        Remapping.Dispose();
        Machine.Dispose();
    }
}
