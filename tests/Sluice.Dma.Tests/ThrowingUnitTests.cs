using Sluice.Iommu.Vtd;
using Sluice.Remapping;

namespace Sluice.Dma.Tests;

/// <summary>Registers that throw are a unit that no longer answers: nobody above sees the exception.</summary>
public sealed class ThrowingUnitTests
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);

    public static TheoryData<string, string> Cases()
    {
        TheoryData<string, string> cases = [];
        foreach (string backend in new[] { "strict", "deferred", "shadow", "isolated" })
        {
            foreach (string unit in new[] { "plain", "caching", "write buffer" }) { cases.Add(backend, unit); }
        }
        return cases;
    }

    // Seen failing: a write-buffer flush (RWBF) whose register access threw out of the map: the pages stood in the
    // tables, the record, its pins and its map registers were gone, and a reservation was leaked without a list.
    [Theory]
    [MemberData(nameof(Cases))]
    public void NothingIsLostWhenTheRegistersThrow(string backend, string unit)
    {
        using TestPlatform platform = new(unit: new VtdOptions
        {
            CachingMode = unit == "caching", NeedsWriteBufferFlush = unit == "write buffer",
        });
        using DmaSystem system = platform.Start(BackendTests.PolicyOf(backend),
            BackendTests.OptionsOf(backend) with { MapRegistersPerAdapter = 64 });
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "disk");
        using Mdl mdl = Mdl.Allocate(platform, 10_000, 77);
        using DmaReservation reservation = adapter.Reserve(10_000);
        platform.UnitThrows = true;
        try
        {
            for (int round = 0; round < 3; round++)
            {
                Try(() => adapter.TryGetScatterGatherList(mdl, 0, 10_000, DmaDirection.FromDevice,
                    out ScatterGatherLease list) ? list : default);
                Try(() => reservation.TryGetScatterGatherList(mdl, 0, 10_000, DmaDirection.FromDevice,
                    out ScatterGatherLease list) ? list : default);
            }
        }
        finally
        {
            // The end of a system is another question.
            platform.UnitThrows = false;
        }
        // A put that had to wait for its flush is over, and a leak when the unit dies before that.
        int most = backend == "deferred" ? 6 : 1;
        if (backend != "deferred") { Assert.Equal(system.Leaks.Count, mdl.MappedTransfers); }
        Assert.InRange(mdl.MappedTransfers, 0, system.Leaks.Count);
        Assert.Equal(0, adapter.Statistics.Outstanding);
        Assert.InRange(system.Leaks.Count, 0, most);
    }

    // A list that is put, or a unit that is dead: nothing else.
    private static void Try(Func<ScatterGatherLease> get)
    {
        try
        {
            ScatterGatherLease list = get();
            Assert.True(list.IsLive);
            list.Dispose();
        }
        catch (DmaException e) { Assert.Equal(DmaFailure.Dead, e.Failure); }
    }
}
