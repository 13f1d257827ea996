using System.Collections.Concurrent;

namespace Sluice.Dma.Wdm.Tests;

/// <summary>Lists that the machine has no memory for, and what is set aside serves one at a time.</summary>
public sealed class StarvedTests
{
    // So long that each list takes a table of its own under remapping.
    private const uint Long = 513 * 4096;

    // Seen failing: who was withdrawn while it was served, and asked again in the same memory, got the old addresses.
    [Theory]
    [InlineData("remapping")]
    [InlineData("deferred")]
    public void WhoAsksAgainInTheSameMemoryGetsItsOwnAddresses(string backend)
    {
        // Verification asks for the time in the middle of a map: that is where this test steps in.
        using Lab lab = new(backend, bytesPerBank: 8 << 20, options: new() { Verification = VerificationMode.Log });
        WdmAdapter adapter = lab.Get(Long);
        Mdl old = lab.Buffer(Long, seed: 1), next = lab.Buffer(Long, seed: 2);
        int bytes = ScatterGatherBuffer.BytesFor(513);
        ScatterGatherBuffer first = new(adapter, bytes), again = new(adapter, bytes), behind = new(adapter, bytes);
        DmaTransferContext context = new();
        List<(string Who, Mdl Mdl, ScatterGatherList List)> served = [];
        lab.Platform.TestFrames.Limit(0);
        NtStatus Ask(string who, DmaTransferContext of, Mdl mdl, ScatterGatherBuffer buffer)
        {
            Assert.Equal(NtStatus.Success, adapter.InitializeDmaTransferContext(of));
            return adapter.BuildScatterGatherListEx(
                lab.Device, of, mdl, 0, Long, DmaFlags.None, (_, _, list, _) => served.Add((who, mdl, list)), null,
                true, buffer, null, null, null);
        }

        Assert.Equal(NtStatus.Success, Ask("first", new(), old, first));
        Assert.Equal(NtStatus.Success, Ask("withdrawn", context, old, again));
        Assert.Equal(NtStatus.Success, Ask("behind", new(), old, behind));
        Assert.Equal("first", Assert.Single(served).Who);
        long requests = adapter.Adapter.Statistics.Requests;
        int steps = 0;
        lab.Platform.TestClock.Asked = () =>
        {
            DmaStatistics now = adapter.Adapter.Statistics;
            if (now.Requests != requests + 1 || now.Outstanding != 1 || steps++ != 0) { return; }
            Assert.True(adapter.CancelAdapterChannel(lab.Device, context));
            Assert.Equal(NtStatus.Success, Ask("again", context, next, again));
        };
        for (int i = 0; i < served.Count; i++)
        {
            Assert.Equal(Lab.Bytes(served[i].Mdl, 0, Long), lab.DeviceReads(served[i].List));
            lab.Put(adapter, served[i].List, true);
        }
        lab.Platform.TestClock.Asked = null;
        Assert.True(steps > 0, "nobody was withdrawn while it was served");
        Assert.Equal(["first", "behind", "again"], served.Select(static s => s.Who));
        lab.Platform.TestFrames.Limit(int.MaxValue);
        adapter.PutDmaAdapter();
    }

    // Seen failing: what was thrown over the chain came out of the put of another list, and nobody was served again.
    [Theory]
    [InlineData("remapping")]
    [InlineData("deferred")]
    public void AChainThatIsCutShortWhileItsListStarvesFailsAlone(string backend)
    {
        using Lab lab = new(backend, bytesPerBank: 8 << 20, options: new() { Verification = VerificationMode.Log });
        WdmAdapter adapter = lab.Get(Long);
        Mdl mdl = lab.Buffer(Long), chain = lab.Chain((Long - 4096, 0), (4096, 0));
        List<(string Who, ScatterGatherList List)> served = [];
        lab.Platform.TestFrames.Limit(0);
        void Ask(string who, Mdl of) => Assert.Equal(NtStatus.Success, lab.AtDispatch(() =>
            adapter.BuildScatterGatherList(
                lab.Device, of, VirtualAddress.Of(of), Long, (_, _, list, _) => served.Add((who, list)), null, true,
                new(adapter, ScatterGatherBuffer.BytesFor(513)))));
        Ask("first", mdl);
        Ask("second", mdl);
        long requests = adapter.Adapter.Statistics.Requests;
        int steps = 0;
        // While the second is served, itself starved, others get in line behind it.
        lab.Platform.TestClock.Asked = () =>
        {
            DmaStatistics now = adapter.Adapter.Statistics;
            if (now.Requests != requests + 1 || now.Outstanding != 1 || steps++ != 0) { return; }
            Ask("cut", chain);
            Ask("behind", mdl);
        };
        lab.Put(adapter, served[0].List, true);
        lab.Platform.TestClock.Asked = null;
        Assert.Equal(["first", "second"], served.Select(static s => s.Who));
        chain.Next = null;
        lab.Put(adapter, served[1].List, true);
        Assert.Equal(["first", "second", "cut", "behind"], served.Select(static s => s.Who));
        Assert.Equal(0, served[2].List.NumberOfElements);
        lab.Put(adapter, served[3].List, true);
        lab.Platform.TestFrames.Limit(int.MaxValue);
        adapter.PutDmaAdapter();
    }

    // Seen failing: starved lists that nobody looks at when the unit dies.
    [Theory]
    [InlineData("remapping", false)]
    [InlineData("remapping", true)]
    [InlineData("deferred", false)]
    [InlineData("deferred", true)]
    public void WhoStarvesWhenTheUnitDiesIsAnswered(string backend, bool ownMemory)
    {
        using TestPlatform platform = new(bytesPerBank: 8 << 20);
        using DmaSystem system = Backend.Start(platform, backend, new() { Verification = VerificationMode.Log });
        WdmAdapter adapter = new WdmDma(system).IoGetDmaAdapter(new(Lab.Slot, "test"), Lab.Master(Long), out _)!;
        DmaAdapter killer = system.CreateAdapter(PciAddress.From(0, 6, 0), new(), "killer");
        CommonBuffer lethal = killer.AllocateCommonBuffer(4096);
        using Mdl mdl = Mdl.Allocate(platform, Long);
        ConcurrentQueue<ScatterGatherList> served = [];
        NtStatus Ask()
        {
            (WdmDeviceObject device, VirtualAddress va) = (adapter.Device, VirtualAddress.Of(mdl));
            DriverListControl routine = (_, _, list, _) => served.Enqueue(list);
            using (IrqlScheduler.RaiseTo(Irql.Dispatch))
            {
                return ownMemory
                    ? adapter.BuildScatterGatherList(device, mdl, va, Long, routine, null, true,
                        new(adapter, ScatterGatherBuffer.BytesFor(513)))
                    : adapter.GetScatterGatherList(device, mdl, va, Long, routine, null, true);
            }
        }

        platform.TestFrames.Limit(0);
        for (int i = 0; i < 2; i++) { Assert.Equal(NtStatus.Success, Ask()); }
        Assert.True(served.TryDequeue(out ScatterGatherList? first));
        // While the second is served, itself starved, others get in line behind it.
        long requests = adapter.Adapter.Statistics.Requests;
        int steps = 0;
        platform.TestClock.Asked = () =>
        {
            DmaStatistics now = adapter.Adapter.Statistics;
            if (now.Requests != requests + 1 || now.Outstanding != 1 || steps++ != 0) { return; }
            for (int i = 0; i < 2; i++) { Assert.Equal(NtStatus.Success, Ask()); }
        };
        using (IrqlScheduler.RaiseTo(Irql.Dispatch)) { adapter.PutScatterGatherList(first, true); }
        platform.TestClock.Asked = null;
        Assert.True(steps > 0, "nobody was served while it starved");
        Assert.Equal(NtStatus.Success, Ask());
        Assert.Single(served);
        platform.UnitIsDeaf = true;
        lethal.Dispose();
        Assert.Single(served);
        platform.TestClock.FireTimers();
        // The routine is the only way to tell: a list of nothing. The list that somebody has is what it was.
        Eventually.Is(() => served.Count == 4);
        Assert.Equal([true, false, false, false], served.Select(static list => list.NumberOfElements > 0));
        Assert.Equal(NtStatus.DeviceNotConnected, Ask());
        Assert.Equal(4, served.Count);
    }

    // Seen failing: each put inside a routine served the next one inside itself, until the stack was full.
    [Fact]
    public void AHundredThousandThatPutInsideTheirRoutinesTakeNoMoreStackThanOne()
    {
        const int Lists = 100_000;
        using Lab lab = new("remapping", bytesPerBank: 8 << 20);
        WdmAdapter adapter = lab.Get(Long);
        Mdl mdl = lab.Buffer(Long);
        VirtualAddress va = VirtualAddress.Of(mdl);
        ScatterGatherBuffer buffer = new(adapter, ScatterGatherBuffer.BytesFor(513));
        (int served, int inside, int deepest) = (0, 0, 0);
        lab.Platform.TestFrames.Limit(0);
        lab.AtDispatch(() =>
        {
            Assert.Equal(NtStatus.Success, adapter.BuildScatterGatherList(
                lab.Device, mdl, va, Long, static (_, _, _, _) => { }, null, true, buffer));
            for (int i = 0; i < Lists; i++)
            {
                Assert.Equal(NtStatus.Success, adapter.GetScatterGatherList(lab.Device, mdl, va, Long,
                    (_, _, list, _) =>
                    {
                        served++;
                        deepest = Math.Max(deepest, ++inside);
                        adapter.PutScatterGatherList(list, true);
                        inside--;
                    }, null, true));
            }
            Assert.Equal(0, served);
            adapter.PutScatterGatherList(buffer.List, true);
        });
        Assert.Equal((Lists, 1), (served, deepest));
        lab.Platform.TestFrames.Limit(int.MaxValue);
        adapter.PutDmaAdapter();
    }

    // Seen failing: a routine that threw left nobody to serve the others; what it threw out of the put of another list.
    [Fact]
    public void ARoutineThatThrowsIsToldToItsDriverAndTheOthersAreServed()
    {
        using Lab lab = new("remapping", bytesPerBank: 8 << 20);
        WdmAdapter adapter = lab.Get(Long);
        Mdl mdl = lab.Buffer(Long);
        VirtualAddress va = VirtualAddress.Of(mdl);
        ScatterGatherBuffer buffer = new(adapter, ScatterGatherBuffer.BytesFor(513));
        List<object?> served = [];
        List<Exception> failures = [];
        adapter.Adapter.CallbackFailed += failures.Add;
        lab.Platform.TestFrames.Limit(0);
        lab.AtDispatch(() =>
        {
            Assert.Equal(NtStatus.Success, adapter.BuildScatterGatherList(
                lab.Device, mdl, va, Long, static (_, _, _, _) => { }, null, true, buffer));
            for (int i = 0; i < 3; i++)
            {
                Assert.Equal(NtStatus.Success, adapter.GetScatterGatherList(lab.Device, mdl, va, Long,
                    (_, _, list, context) =>
                    {
                        served.Add(context);
                        adapter.PutScatterGatherList(list, true);
                        if (context is 0) { throw new TimeoutException(); }
                    }, i, true));
            }
            adapter.PutScatterGatherList(buffer.List, true);
        });
        Assert.IsType<TimeoutException>(Assert.Single(failures));
        Assert.Equal([0, 1, 2], served);
        lab.Platform.TestFrames.Limit(int.MaxValue);
        adapter.PutDmaAdapter();
    }
}
