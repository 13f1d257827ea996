using Sluice.Iommu.Vtd;
using Sluice.Remapping;

namespace Sluice.Dma.Tests;

/// <summary>
/// A machine with a unit, its DMA system, and what was told of refused DMAs. The clock begins at a millisecond,
/// so that no time is 0, which says that nobody knows it.
/// </summary>
internal sealed class FaultLab : IDisposable
{
    internal static readonly PciAddress Nvme = PciAddress.From(0, 4, 0);
    internal static readonly PciAddress Edu = PciAddress.From(0, 5, 0);

    internal FaultLab(
        DmaOptions? options = null, VtdOptions? unit = null, InvalidationPolicy policy = InvalidationPolicy.Strict)
    {
        Platform = new(unit: unit);
        Platform.TestClock.Nanoseconds = 1_000_000;
        System = Platform.Start(policy, options);
        System.Reported += Reports.Add;
        Buffer = Mdl.Allocate(Platform, 4096);
    }

    internal TestPlatform Platform { get; }

    internal TestClock Clock => Platform.TestClock;

    internal DmaSystem System { get; }

    internal List<DmaReport> Reports { get; } = [];

    /// <summary>A page.</summary>
    internal Mdl Buffer { get; }

    internal DmaAdapter Create(PciAddress device) =>
        System.CreateAdapter(device, new(), device == Nvme ? "nvme" : "edu");

    /// <summary>Maps the page.</summary>
    internal ScatterGatherLease Get(
        DmaAdapter adapter, DmaDirection direction = DmaDirection.FromDevice, uint tag = 0)
    {
        Assert.True(adapter.TryGetScatterGatherList(Buffer, 0, 4096, direction, out ScatterGatherLease list, tag));
        return list;
    }

    /// <summary>Maps the page until it lies at an address, and gives all others back.</summary>
    internal ScatterGatherLease GetAt(
        DmaAdapter adapter, LogicalAddress address, DmaDirection direction = DmaDirection.FromDevice, uint tag = 0)
    {
        for (int i = 0; i < 2_000; i++)
        {
            ScatterGatherLease list = Get(adapter, direction, tag);
            if (list[0].Address == address) { return list; }
            adapter.PutScatterGatherList(list);
        }
        Assert.Fail("no list ever lay there again: this tests nothing");
        return default;
    }

    /// <summary>Maps the page and gives it back.</summary>
    /// <returns>Where it lay.</returns>
    internal LogicalAddress GetAndPut(
        DmaAdapter adapter, DmaDirection direction = DmaDirection.FromDevice, uint tag = 0)
    {
        ScatterGatherLease list = Get(adapter, direction, tag);
        LogicalAddress address = list[0].Address;
        adapter.PutScatterGatherList(list);
        return address;
    }

    /// <summary>A device's write, which is refused; the record waits to be read.</summary>
    internal void Write(PciAddress device, LogicalAddress address) =>
        Assert.False(Platform.DmaWrite(device, address, new byte[8]));

    /// <summary>Reads the records, and answers the one report.</summary>
    internal DmaReport Read()
    {
        Platform.RunInterrupts();
        System.DeliverReports();
        return Assert.Single(Reports);
    }

    /// <summary>The record of a refused write, as the unit's side hands it on; when it happened nobody knows.</summary>
    internal static DmaFault FaultAt(PciAddress device, LogicalAddress address) => new(
        device, address, 12, DmaAccess.Write, FaultCause.AccessDenied, 5, "VT-d reason 0x05, write permission", 0);

    public void Dispose()
    {
        Buffer.Dispose();
        System.Dispose();
        Platform.Dispose();
    }
}
