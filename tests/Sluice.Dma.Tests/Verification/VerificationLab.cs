using Sluice.Remapping;

namespace Sluice.Dma.Tests.Verification;

/// <summary>A machine whose DMA is verified, and what was noted so far.</summary>
internal sealed class VerificationLab : IDisposable
{
    internal static readonly PciAddress Nvme = PciAddress.From(0, 4, 0);
    internal static readonly PciAddress Edu = PciAddress.From(0, 5, 0);

    private readonly List<Mdl> _mdls = [];

    internal VerificationLab(
        DmaOptions? options = null, InvalidationPolicy? policy = null, DeviceDescription? device = null,
        VerificationMode mode = VerificationMode.Log)
    {
        System = Platform.Start(policy, (options ?? new()) with { Verification = mode });
        if (mode != VerificationMode.Off) { System.Violated += Violations.Add; }
        Adapter = System.CreateAdapter(Nvme, device ?? new(), "nvme");
    }

    internal TestPlatform Platform { get; } = new();

    internal DmaSystem System { get; }

    internal DmaAdapter Adapter { get; }

    internal AdapterVerifier Verifier => Adapter.Verifier!;

    internal List<DmaViolation> Violations { get; } = [];

    internal static CallSite Site => new("Submit", "/drivers/Nvme.cs");

    internal Mdl Buffer(uint length = 8192, int offset = 0)
    {
        Mdl mdl = Mdl.Allocate(Platform, length, offset);
        _mdls.Add(mdl);
        return mdl;
    }

    internal ScatterGatherLease Get(
        Mdl mdl, DmaDirection direction = DmaDirection.ToDevice, uint offset = 0, uint? length = null,
        DmaAdapter? adapter = null)
    {
        Assert.True((adapter ?? Adapter).TryGetScatterGatherList(mdl, offset, length ?? mdl.ByteCount - offset,
            direction, out ScatterGatherLease list, tag: 17));
        return list;
    }

    /// <summary>The one thing noted since the last look.</summary>
    internal DmaViolation Broke(VerificationRule rule, int subCode = 0)
    {
        DmaViolation violation = Assert.Single(Violations);
        Violations.Clear();
        Assert.Equal((rule, subCode), (violation.Rule, violation.SubCode));
        return violation;
    }

    internal void BrokeNothing() => Assert.Empty(Violations);

    /// <summary>A store of the processor, or of a device that nothing stops, wherever it hits.</summary>
    internal void Poke(PhysicalAddress address, byte value) =>
        Assert.True(Platform.Memory.TryWrite(address, [value]));

    public void Dispose()
    {
        foreach (Mdl mdl in _mdls) { mdl.Dispose(); }
        System.Dispose();
        Platform.Dispose();
    }
}
