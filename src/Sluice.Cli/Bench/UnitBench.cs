using Sluice.Iommu;
using Sluice.Iommu.Vtd;
using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Cli.Bench;

/// <summary>
/// A machine with a VT-d unit, one attached device, and pages mapped for it: what the translation rows work on.
/// </summary>
internal sealed class UnitBench : IDisposable
{
    private readonly RemappingSystem _remapping;
    private readonly Domain _domain;

    /// <summary>Builds it with <paramref name="pages"/> scattered pages mapped one by one.</summary>
    public UnitBench(int pages, VtdOptions? vtd = null)
    {
        Machine = Machine.Create(new() { Iommu = MachineIommu.Vtd, Vtd = vtd ?? new(), MemoryBytes = 64UL << 20 });
        Device = Machine.Plug(new RogueDevice());
        PciBus.Enumerate(Machine).Single(f => f.Address == Device.Address).EnableBusMaster();
        _remapping = RemappingSystem.Start(Machine, new(), new NoFaults());
        _domain = _remapping.CreateDomain(new() { Name = "bench" });
        _remapping.Attach(_domain, Device.Address);
        Addresses = new LogicalAddress[pages];
        PhysicalAddress[] frame = new PhysicalAddress[1];
        for (int i = 0; i < pages; i++)
        {
            if (!Machine.Frames.TryAllocate(FrameKind.Buffer, 12, out frame[0])
                || _domain.TryMap(frame, DmaAccess.ReadWrite, new(ulong.MaxValue), out DomainMapping mapping)
                    != MapStatus.Mapped)
            {
                throw new CommandException("the bench machine is too small");
            }
            Addresses[i] = mapping.First;
        }
        Port = Unit.Connect("bench");
    }

    /// <summary>The machine.</summary>
    public Machine Machine { get; }

    /// <summary>Its unit.</summary>
    public VtdUnit Unit => Machine.Unit!;

    /// <summary>The attached device.</summary>
    public RogueDevice Device { get; }

    /// <summary>An agent's way into the unit.</summary>
    public TranslationPort Port { get; }

    /// <summary>Where the pages are mapped.</summary>
    public LogicalAddress[] Addresses { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        _remapping.Dispose();
        Machine.Dispose();
    }

    private sealed class NoFaults : IFaultSink
    {
        public void OnFault(in DmaFault fault)
        {
        }

        public void OnFaultsLost(ulong atLeast)
        {
        }
    }
}
