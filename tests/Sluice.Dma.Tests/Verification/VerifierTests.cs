using System.Text.Json;
using static Sluice.Dma.VerificationRule;

namespace Sluice.Dma.Tests.Verification;

/// <summary>What becomes of a violation, and what verification costs in memory.</summary>
public sealed class VerifierTests
{
    [Fact]
    public void OffWatchesNothing()
    {
        using VerificationLab lab = new(mode: VerificationMode.Off);
        Mdl mdl = lab.Buffer();
        ScatterGatherLease list = lab.Get(mdl, DmaDirection.FromDevice);
        lab.Get(mdl, DmaDirection.FromDevice).Dispose();
        list.Dispose();
        Assert.Throws<InvalidOperationException>(() => list.Dispose());
        lab.BrokeNothing();
        Assert.Null(lab.Adapter.Verifier);
        Assert.Equal(0, lab.System.Statistics.Violations);
    }

    [Theory]
    [InlineData(VerificationMode.Log)]
    [InlineData(VerificationMode.Break)]
    public void LogAndBreakChangeNothingForTheCaller(VerificationMode mode)
    {
        using VerificationLab lab = new(mode: mode);
        Mdl mdl = lab.Buffer();
        ScatterGatherLease one = lab.Get(mdl, DmaDirection.FromDevice);
        ScatterGatherLease two = lab.Get(mdl, DmaDirection.FromDevice);
        lab.Broke(AlreadyMapped, 1);
        one.Dispose();
        two.Dispose();
        Assert.Equal(1, lab.System.Statistics.Violations);
    }

    // Seen failing: the pin of the buffer kept.
    [Fact]
    public async Task ThrowRefusesTheGetAndLeavesNothingMapped()
    {
        using VerificationLab lab = new(mode: VerificationMode.Throw);
        Mdl mdl = lab.Buffer();
        ScatterGatherLease first = lab.Get(mdl, DmaDirection.FromDevice);
        DmaViolationException thrown = Assert.Throws<DmaViolationException>(() => lab.Get(mdl));
        Assert.Equal((AlreadyMapped, DmaFailure.RuleBroken), (thrown.Violation.Rule, thrown.Failure));
        Assert.StartsWith("DMA rule 1D: bytes ", thrown.Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<DmaViolationException>(
            async () => await lab.Adapter.GetScatterGatherListAsync(mdl, 0, 1, DmaDirection.ToDevice));
        int called = 0;
        Assert.Throws<DmaViolationException>(() => lab.Adapter.GetScatterGatherList(
            mdl, 0, 1, DmaDirection.ToDevice, (_, _, _) => called++));
        Assert.Equal((0, 1), (called, mdl.MappedTransfers));
        Assert.Equal((1, 1), (lab.Adapter.Statistics.Outstanding, lab.Adapter.Statistics.Requests));
        Assert.Equal(2, lab.System.Verifier!.Pages.Count);
        Assert.Equal(3, lab.Violations.Count);
        first.Dispose();
        Assert.False(DmaVerifier.MustConclude);
        lab.Get(mdl).Dispose();
    }

    [Fact]
    public void ThrowEndsThePutBeforeItThrows()
    {
        using VerificationLab lab = new(mode: VerificationMode.Throw);
        Mdl mdl = lab.Buffer();
        ScatterGatherLease list = lab.Get(mdl);
        lab.Poke(mdl.Pages[0], 9);
        Assert.Equal(WrittenWhileMapped,
            Assert.Throws<DmaViolationException>(() => list.Dispose()).Violation.Rule);
        Assert.False(list.IsLive);
        Assert.Equal((0, 0), (lab.Adapter.Statistics.Outstanding, mdl.MappedTransfers));
        Assert.Equal(ListPutTwice,
            Assert.Throws<DmaViolationException>(() => lab.Adapter.PutScatterGatherList(list)).Violation.Rule);
        Assert.Equal(ZeroLength,
            Assert.Throws<DmaViolationException>(() => lab.Get(mdl, length: 0)).Violation.Rule);
    }

    [Fact]
    public void ThrowAtTheEndOfASystemEndsAllAdaptersFirst()
    {
        using TestPlatform platform = new();
        DmaSystem system = DmaSystem.Start(platform, new() { Verification = VerificationMode.Throw });
        List<DmaViolation> violations = [];
        system.Violated += violations.Add;
        DmaAdapter[] adapters =
        [
            system.CreateAdapter(VerificationLab.Nvme, new(), "nvme"),
            system.CreateAdapter(VerificationLab.Edu, new(), "edu"),
        ];
        foreach (DmaAdapter adapter in adapters) { adapter.AllocateCommonBuffer(1); }
        Assert.Equal("nvme", Assert.Throws<DmaViolationException>(system.Dispose).Violation.Driver);
        Assert.Equal(["nvme", "edu"], violations.Select(static v => v.Driver));
        Assert.Equal(2, system.Leaks.Count);
    }

    [Fact]
    public void ASubscriberThatThrowsOrBreaksRulesItselfHarmsNobody()
    {
        using VerificationLab lab = new();
        Mdl mdl = lab.Buffer();
        int told = 0;
        lab.System.Violated += _ => throw new InvalidOperationException("no");
        lab.System.Violated += _ =>
        {
            told++;
            Assert.Throws<ArgumentOutOfRangeException>(() => lab.Get(mdl, length: 0));
        };
        Assert.Throws<ArgumentOutOfRangeException>(() => lab.Get(mdl, length: 0));
        Assert.Equal((1, 2, 1), (told, lab.System.Statistics.Violations, lab.System.Statistics.SubscriberFailures));
        lab.Broke(ZeroLength);
    }

    [Fact]
    public void AViolationReadsAsAReport()
    {
        using VerificationLab lab = new();
        Mdl mdl = lab.Buffer();
        lab.Platform.TestClock.Nanoseconds = 1000;
        ScatterGatherLease list = lab.Get(mdl);
        lab.Platform.TestClock.Nanoseconds = 15_000;
        lab.Poke(mdl.Pages[1], 9);
        LogicalAddress at = list[0].Address;
        lab.Adapter.PutScatterGatherList(list);
        DmaViolation violation = lab.Broke(WrittenWhileMapped);
        Assert.Equal(
            $"""
            DMA rule 60 broken: the processor changed a buffer that the device owned
              nvme 0000:00:04.0: the buffer of mapping #1 changed between get and put, and its device may only read it
              mapping #1 [{at}, 8192 bytes, ToDevice], lived 14 µs
                mapped   VerificationLab.Get            by driver nvme, request tag 17
              noticed in VerifierTests.AViolationReadsAsAReport
              likely cause: the driver filled or used the buffer again before the request was complete
              what to do: fill the buffer before the get, and use it again after the put

            """,
            violation.ToString());
        JsonElement json = JsonDocument.Parse(violation.ToJson()).RootElement;
        Assert.Equal(("violation", "60", "written-while-mapped", 14_000),
            (json.GetProperty("kind").GetString(), json.GetProperty("code").GetString(),
                json.GetProperty("rule").GetString(), json.GetProperty("ageNs").GetInt64()));
        Assert.Equal(1, json.GetProperty("mapping").GetProperty("number").GetInt64());
        Assert.Equal("nvme", json.GetProperty("device").GetProperty("driver").GetString());
        Assert.False(json.TryGetProperty("other", out _));
        Assert.False(json.TryGetProperty("blocked", out _));
    }

    [Theory]
    [InlineData("Throw", VerificationMode.Throw)]
    [InlineData("log", VerificationMode.Log)]
    [InlineData("off", VerificationMode.Off)]
    public void TheModeIsAnOptionOfTheRuntime(string option, VerificationMode mode) =>
        Assert.Equal(mode, DmaOptions.ModeOf(option));

    [Fact]
    public void WithoutTheOptionTheBuildDecides()
    {
        VerificationMode mode = DmaOptions.ModeOf(null);
        Assert.Equal(mode, DmaOptions.ModeOf("nonsense"));
        Assert.Equal(mode, DmaOptions.ModeOf(3));
#if !DEBUG
        Assert.Equal(VerificationMode.Off, mode);
#endif
    }

    // Seen failing: entries of a transfer of two pages of which one was removed; a record per mapping.
    [Fact]
    public void AMillionRequestsLeaveNothingBehindAndAllocateNothing()
    {
        using VerificationLab lab = new(new() { RecentMappings = 64 });
        Mdl[] mdls = [.. Enumerable.Range(0, 16).Select(i => lab.Buffer(8192, i * 100))];
        var lists = new ScatterGatherLease[16];
        Random random = new(5);
        long before = 0;
        int capacity = 0;
        for (int i = 0; i < 1_000_000; i++)
        {
            if (i == 100_000)
            {
                capacity = lab.System.Verifier!.Pages.Capacity;
                before = HeapMeter.Now;
            }
            ref ScatterGatherLease slot = ref lists[i & 15];
            if (slot.IsLive) { lab.Adapter.PutScatterGatherList(slot); }
            uint length = (uint)random.Next(1, 200);
            uint offset = (uint)random.Next(3900, 4200);
            slot = lab.Get(mdls[i & 15], (i & 1) == 0 ? DmaDirection.ToDevice : DmaDirection.FromDevice, offset,
                length);
        }
        HeapMeter.AssertNone(before);
        Assert.Equal(capacity, lab.System.Verifier!.Pages.Capacity);
        foreach (ScatterGatherLease list in lists) { list.Dispose(); }
        Assert.Equal(0, lab.System.Verifier.Pages.Count);
        lab.BrokeNothing();
    }

    // Seen failing: a shard without its lock.
    [Fact]
    public void ThreadsThatMeetInOneShardLoseNoEntry()
    {
        using VerificationLab lab = new();
        MappedPages pages = new();
        Mapping[] mappings = [.. lab.Adapter.Table.All[..4]];
        Parallel.For(0, 4, new() { MaxDegreeOfParallelism = 4 }, thread =>
        {
            for (int i = 0; i < 50_000; i++)
            {
                // All in one shard, eight pages each.
                PhysicalAddress page = new(((ulong)(i & 7) << 18) | ((ulong)thread << 24));
                MappedBy by = new(mappings[thread], i >> 3);
                Assert.Equal(0, pages.Add(page, 0, 4095, writes: true, by, out _));
                if ((i & 7) != 7) { continue; }
                for (ulong p = 0; p < 8; p++) { pages.Remove(new((p << 18) | ((ulong)thread << 24)), 0, by); }
            }
        });
        Assert.Equal(0, pages.Count);
        Assert.True(pages.Capacity <= 64 * 16 + 64);
    }

    [Fact]
    public void OverlapsAreSeenAmongThreads()
    {
        using VerificationLab lab = new();
        long expected = 0;
        object gate = new();
        Mdl shared = lab.Buffer(4096);
        lab.System.Violated -= lab.Violations.Add;
        int seen = 0;
        lab.System.Violated += _ => Interlocked.Increment(ref seen);
        ScatterGatherLease held = lab.Get(shared, DmaDirection.ToDevice, 0, 10);
        Parallel.For(0, 4, thread =>
        {
            using Mdl own = Mdl.Allocate(lab.Platform, 65536);
            Random random = new(thread);
            int ours = 0;
            for (int i = 0; i < 5000; i++)
            {
                uint first = (uint)random.Next(0, 60_000);
                ScatterGatherLease one = lab.Get(own, DmaDirection.FromDevice, first, 5000);
                if (i % 10 == 0)
                {
                    lab.Get(own, DmaDirection.ToDevice, first + 4999, 1).Dispose();
                    ours++;
                }
                else { lab.Get(own, DmaDirection.ToDevice, first + 5000, 1).Dispose(); }
                one.Dispose();
            }
            lock (gate) { expected += ours; }
        });
        held.Dispose();
        Assert.Equal(expected, seen);
        Assert.Equal(0, lab.System.Verifier!.Pages.Count);
    }
}
