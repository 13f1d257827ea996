using Sluice.Remapping;

namespace Sluice.Dma.Tests;

/// <summary>
/// Real DMAs, refused by a real unit, read through its fault records: every kind, and what almost is one.
/// </summary>
public sealed class ReportTests : IDisposable
{
    private static readonly PciAddress Nvme = PciAddress.From(0, 4, 0);
    private static readonly PciAddress Edu = PciAddress.From(0, 5, 0);

    private readonly TestPlatform _platform = new();
    private readonly DmaSystem _system;
    private readonly DmaAdapter _nvme;
    private readonly DmaAdapter _edu;
    private readonly List<DmaReport> _reports = [];
    private readonly List<Mdl> _mdls = [];

    public ReportTests()
    {
        _system = _platform.Start(InvalidationPolicy.Strict,
            new() { RegionNames = new Names(), RecentMappings = 1024 });
        _system.Reported += _reports.Add;
        _nvme = _system.CreateAdapter(Nvme, new(), "nvme");
        _edu = _system.CreateAdapter(Edu, new() { AddressBits = 32 }, "edu");
    }

    public void Dispose()
    {
        foreach (Mdl mdl in _mdls) { mdl.Dispose(); }
        _system.Dispose();
        _platform.Dispose();
    }

    private ScatterGatherLease SubmitRead(uint length, DmaDirection direction, uint tag = 0,
        DmaAdapter? adapter = null, Mdl? mdl = null)
    {
        if (mdl is null)
        {
            mdl = Mdl.Allocate(_platform, length);
            _mdls.Add(mdl);
        }
        Assert.True((adapter ?? _nvme).TryGetScatterGatherList(mdl, 0, length, direction, out ScatterGatherLease list,
            tag));
        return list;
    }

    private void CompleteRequest(in ScatterGatherLease list) => _nvme.PutScatterGatherList(list);

    private DmaReport Blocked(LogicalAddress address, DmaAccess access, PciAddress? device = null)
    {
        Assert.False(_platform.Dma(device ?? Nvme, address, new byte[8], access));
        _platform.RunInterrupts();
        _system.DeliverReports();
        DmaReport report = Assert.Single(_reports);
        _reports.Clear();
        Assert.Equal((device ?? Nvme, address.AlignDown(12), access),
            (report.Fault.Device, report.Fault.Address, report.Fault.Access));
        return report;
    }

    [Fact]
    public void I09AfterUnmapNamesTheRequestAndBothSites()
    {
        ScatterGatherLease early = SubmitRead(4096, DmaDirection.FromDevice);
        CompleteRequest(early);
        ScatterGatherLease list = SubmitRead(8192, DmaDirection.FromDevice, tag: 17);
        ScatterGatherLease other = SubmitRead(4096, DmaDirection.FromDevice);
        LogicalAddress first = list[0].Address, next = other[0].Address;
        _platform.TestClock.Nanoseconds = 1_000_000;
        CompleteRequest(list);
        _platform.TestClock.Nanoseconds += 14_300;
        DmaReport report = Blocked(first, DmaAccess.Write);
        long distance = (long)(next.Value - first.Value);
        string side = distance > 0 ? $"{distance} bytes above" : $"{-distance - 4096} bytes below";
        Assert.Equal(
            $"""
            DMA blocked: write after PutScatterGatherList
            {$"  nvme 0000:00:04.0 wrote in the page at {first}",-60}VT-d reason 0x05, write permission
              {first} is the page of byte 0 of mapping #2 (8192 bytes, FromDevice), gone for 14 µs
                mapped   ReportTests.SubmitRead         by driver nvme, request tag 17
                unmapped ReportTests.CompleteRequest
              nearest live mapping: #3 [{next}, 4096 bytes, FromDevice] {side}
              likely cause: the driver completed the request while the device still worked on it

            """,
            report.ToString());
        Assert.Equal(
            $$"""
            {"kind":"after-unmap","headline":"write after PutScatterGatherList",
            "device":{"address":"0000:00:04.0","driver":"nvme"},
            "access":"write","address":"{{first}}","granularity":4096,
            "hardware":{"code":5,"text":"VT-d reason 0x05, write permission"},
            "mapping":{"number":2,"owner":"nvme","device":"0000:00:04.0","site":"ReportTests.SubmitRead","tag":17,
            "first":"{{first}}","length":8192,"direction":"from-device","state":"unmapped","commonBuffer":false,
            "unmappedSite":"ReportTests.CompleteRequest","goneForNs":14300,"offset":0},
            "nearest":{"number":3,"first":"{{next}}","length":4096,"direction":"from-device",
            "distance":{{(distance > 0 ? distance : -distance - 4096)}},
            "side":"{{(distance > 0 ? "above" : "below")}}"},
            "likelyCause":"the driver completed the request while the device still worked on it"}
            """.Replace("\n", "", StringComparison.Ordinal),
            report.ToJson());
    }

    // Seen failing: the earliest mapping to end in place of the latest.
    [Fact]
    public void OfSeveralPastOwnersTheLastIsNamed()
    {
        Mdl mdl = Mdl.Allocate(_platform, 4096);
        _mdls.Add(mdl);
        LogicalAddress first = default;
        uint again = 0;
        for (uint tag = 1; tag < 1000 && again == 0; tag++)
        {
            ScatterGatherLease list = SubmitRead(4096, DmaDirection.FromDevice, tag, mdl: mdl);
            if (tag == 1) { first = list[0].Address; }
            else if (list[0].Address == first) { again = tag; }
            _platform.TestClock.Nanoseconds += 5_000;
            CompleteRequest(list);
        }
        Assert.NotEqual(0u, again);
        DmaReport report = Blocked(first, DmaAccess.Write);
        Assert.Equal((DmaReportKind.AfterUnmap, again), (report.Kind, report.Mapping!.Value.Tag));
    }

    [Fact]
    public void AfterUnmapLongAgoNamesNoCause()
    {
        ScatterGatherLease list = SubmitRead(8192, DmaDirection.FromDevice);
        LogicalAddress second = list[0].Address + 4096;
        CompleteRequest(list);
        _platform.TestClock.Nanoseconds += 3_000_000_000;
        DmaReport report = Blocked(second, DmaAccess.Write);
        Assert.Equal((DmaReportKind.AfterUnmap, 4096UL, (string?)null),
            (report.Kind, report.Offset, report.LikelyCause));
        Assert.Contains("is the page of byte 4096 of mapping #1 (8192 bytes, FromDevice), gone for 3 s",
            report.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void AFreedCommonBufferIsAfterUnmapToo()
    {
        CommonBuffer ring = _nvme.AllocateCommonBuffer(4096);
        LogicalAddress address = ring.Address;
        ring.Dispose();
        DmaReport report = Blocked(address, DmaAccess.Read);
        Assert.Equal((DmaReportKind.AfterUnmap, "read after the common buffer was freed"),
            (report.Kind, report.Headline));
        Assert.Equal("CommonBuffer.Dispose", report.Mapping!.Value.UnmapSite.ToString());
    }

    // Seen failing: every right taken to allow every access.
    [Theory]
    [InlineData(DmaDirection.ToDevice, DmaAccess.Write, false)]
    [InlineData(DmaDirection.FromDevice, DmaAccess.Read, false)]
    [InlineData(DmaDirection.ToDevice, DmaAccess.Write, true)]
    public void WrongDirectionHoldsWhetherOrNotTheMappingEndedMeanwhile(DmaDirection direction, DmaAccess access,
        bool ended)
    {
        ScatterGatherLease list = SubmitRead(8192, direction);
        LogicalAddress address = list[0].Address;
        if (ended) { CompleteRequest(list); }
        DmaReport report = Blocked(address + 4096, access);
        Assert.Equal(DmaReportKind.WrongDirection, report.Kind);
        Assert.Equal((1L, 4096UL), (report.Mapping!.Value.Number, report.Offset));
        Assert.EndsWith($"in a mapping that is {direction} only", report.Headline, StringComparison.Ordinal);
        Assert.NotNull(report.LikelyCause);
    }

    [Fact]
    public void ALiveMappingThatAllowsTheAccessIsNotBlamed()
    {
        ScatterGatherLease list = SubmitRead(4096, DmaDirection.FromDevice);
        DmaReport report = Synthesize(new(list[0].Address.Value), DmaAccess.Write);
        Assert.Equal((DmaReportKind.Unclassified, (string?)null), (report.Kind, report.LikelyCause));
        Assert.Contains("it allows this, so it was mapped after the DMA was refused", report.ToString(),
            StringComparison.Ordinal);
    }

    // Seen failing: the guard taken as one page whatever the slot; the address after the guard taken as the end too.
    [Fact]
    public void PastTheEndIsTheGuardAndNotOnePageFurther()
    {
        ScatterGatherLease list = SubmitRead(5 * 4096, DmaDirection.FromDevice);
        LogicalAddress end = list[0].Address + (5 * 4096);
        DmaReport near = Blocked(end, DmaAccess.Write);
        Assert.Equal((DmaReportKind.PastTheEnd, 1L), (near.Kind, near.Mapping!.Value.Number));
        Assert.Equal("the device was told of more bytes than were mapped", near.LikelyCause);
        Assert.Contains($"{end} is directly past the end of mapping #1 (20480 bytes, FromDevice), live",
            near.ToString(), StringComparison.Ordinal);
        DmaReport far = Blocked(end + 8192, DmaAccess.Write);
        Assert.Equal(DmaReportKind.PastTheEnd, far.Kind);
        Assert.Contains("is 8192 bytes past the end", far.ToString(), StringComparison.Ordinal);
        DmaReport beyond = Blocked(end + (3 * 4096), DmaAccess.Write);
        Assert.Equal(DmaReportKind.NeverMapped, beyond.Kind);
        Assert.Equal((1L, 12288UL, false),
            (beyond.Nearest!.Value.Mapping.Number, beyond.Nearest.Value.Distance, beyond.Nearest.Value.Above));
        Assert.Null(beyond.LikelyCause);
    }

    [Fact]
    public void BeforeTheStartIsOnePageAndNotTwo()
    {
        // Three pages fill a slot of four; its predecessor is free.
        ScatterGatherLease list = SubmitRead(3 * 4096, DmaDirection.ToDevice);
        LogicalAddress first = list[0].Address;
        Assert.True(first.Value > 8192);
        DmaReport near = Blocked(first - 4096, DmaAccess.Read);
        Assert.Equal((DmaReportKind.BeforeTheStart, 1L), (near.Kind, near.Mapping!.Value.Number));
        Assert.Equal("read before the start of a mapping", near.Headline);
        Assert.Contains("is 4096 bytes before the start of mapping #1", near.ToString(), StringComparison.Ordinal);
        Assert.NotEqual(DmaReportKind.BeforeTheStart, Blocked(first - 8192, DmaAccess.Read).Kind);
    }

    [Theory]
    [InlineData(0x0UL)]
    [InlineData(0x8UL)]
    public void TheFirstPageIsAddressZero(ulong address)
    {
        DmaReport report = Blocked(new(address), DmaAccess.Read);
        Assert.Equal((DmaReportKind.AddressZero, "read at address zero"), (report.Kind, report.Headline));
    }

    [Fact]
    public void TheSecondPageIsNotAddressZero() =>
        Assert.Equal(DmaReportKind.NeverMapped, Blocked(new(0x1000), DmaAccess.Read).Kind);

    [Fact]
    public void AnotherDevicesLiveMappingIsNamedWithItsOwner()
    {
        ScatterGatherLease theirs = SubmitRead(4096, DmaDirection.ToDevice, adapter: _edu);
        LogicalAddress address = theirs[0].Address;
        DmaReport report = Blocked(address, DmaAccess.Read);
        Assert.Equal((DmaReportKind.AnotherDevice, "edu", Edu),
            (report.Kind, report.Mapping!.Value.Owner, report.Mapping.Value.Device));
        Assert.Contains("of edu 0000:00:05.0", report.ToString(), StringComparison.Ordinal);
        // Its right would not have allowed a write either: then the resemblance says nothing.
        Assert.Equal(DmaReportKind.NeverMapped, Blocked(address, DmaAccess.Write).Kind);
        theirs.Dispose();
        Assert.Equal(DmaReportKind.NeverMapped, Blocked(address, DmaAccess.Read).Kind);
    }

    // Seen failing: the lengths of a chain's earlier parts not added up.
    [Fact]
    public void APhysicalAddressOfTheDevicesOwnBufferIsRecognised()
    {
        Mdl mdl = Mdl.Allocate(_platform, 1000, 100), tail = Mdl.Allocate(_platform, 9000);
        mdl.Next = tail;
        _mdls.AddRange([mdl, tail]);
        ScatterGatherLease list = SubmitRead(10000, DmaDirection.ToDevice, mdl: mdl);
        DmaReport report = Blocked(new(tail.Pages[1].Value), DmaAccess.Read);
        Assert.Equal(DmaReportKind.PhysicalAddress, report.Kind);
        PhysicalFinding found = report.Physical!.Value;
        Assert.Equal((1L, 1000UL + 4096, FrameKind.Buffer), (found.Mapping!.Value.Number, found.Offset, found.Frame));
        Assert.Equal("the device was given the buffer's physical address, not the one in its scatter/gather list",
            report.LikelyCause);
        Assert.Contains(
            "is the physical address of the page of byte 5096 of mapping #1 (10000 bytes, ToDevice), live at "
            + $"{list[0].Address} for nvme",
            report.ToString(), StringComparison.Ordinal);
        DmaReport stranger = Blocked(new(tail.Pages[1].Value), DmaAccess.Read, Edu);
        Assert.Equal((DmaReportKind.PhysicalAddress, (string?)null), (stranger.Kind, stranger.LikelyCause));
        CompleteRequest(list);
        Assert.Null(Blocked(new(tail.Pages[1].Value), DmaAccess.Read).Physical!.Value.Mapping);
    }

    // Seen failing: a frame that awaits its flush told as free memory.
    [Theory]
    [InlineData(FrameKind.Kernel, "the interrupt table")]
    [InlineData(FrameKind.UnitTable, "the remapping unit's tables")]
    [InlineData(FrameKind.Quarantined, "memory in quarantine")]
    [InlineData(FrameKind.AwaitsFlush, "a buffer that was given back and awaits a flush")]
    [InlineData(FrameKind.Free, "free memory")]
    public void AnyPageOfMemoryIsNamedByItsUse(FrameKind kind, string name)
    {
        PhysicalAddress page = new(TestPlatform.Low + (kind == FrameKind.Kernel ? 0 : 0x5000u));
        _platform.TestFrames.Mark(page, kind);
        DmaReport report = Blocked(new(page.Value), DmaAccess.Write);
        Assert.Equal((DmaReportKind.PhysicalAddress, kind, (string?)null),
            (report.Kind, report.Physical!.Value.Frame, report.LikelyCause));
        Assert.Contains($"is the physical address of {name}\n", report.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void FreeMemoryNearTheDevicesOwnMappingsIsACoincidence()
    {
        ScatterGatherLease list = SubmitRead(4096, DmaDirection.ToDevice);
        LogicalAddress far = list[0].Address + 0x8000;
        _platform.TestFrames.Mark(new(far.Value), FrameKind.Free);
        Assert.Equal(DmaReportKind.NeverMapped, Blocked(far, DmaAccess.Read).Kind);
        _platform.TestFrames.Mark(new(far.Value), FrameKind.Kernel);
        Assert.Equal(DmaReportKind.PhysicalAddress, Blocked(far, DmaAccess.Read).Kind);
    }

    [Theory]
    [InlineData(0xCCCC_CCCCUL, "0xCC")]
    [InlineData(0xFFFF_FFFFUL, "0xFF")]
    [InlineData(0xE5E5_E5E5UL, "0xE5")]
    [InlineData(0xA5A5_A5A5_A5A5_A5A5UL, "0xA5")]
    public void ARepeatedByteIsAPoisonPattern(ulong address, string pattern)
    {
        DmaReport report = Blocked(new(address), DmaAccess.Read);
        Assert.Equal((DmaReportKind.PoisonPattern, pattern == "0xFF"), (report.Kind, report.LikelyCause is null));
        Assert.Contains($"repeats the byte {pattern}\n", report.ToString(), StringComparison.Ordinal);
    }

    // Seen failing: the high half not compared, so 0x1_CCCC_C000 was poison.
    [Theory]
    [InlineData(0xCCCC_D000UL)]
    [InlineData(0x1_CCCC_C000UL)]
    [InlineData(0x0000_CCCC_CCCC_C000UL)]
    [InlineData(0xA5A5_A5A5_A5A4_A000UL)]
    public void AnAlmostRepeatedByteIsNot(ulong address) =>
        Assert.Equal(DmaReportKind.NeverMapped, Blocked(new(address), DmaAccess.Read).Kind);

    [Theory]
    [InlineData(0xE000_0000UL, "bus window [0xE0000000, 0xEFFFFFFF]")]
    [InlineData(0xEFFF_FFFFUL, "bus window [0xE0000000, 0xEFFFFFFF]")]
    [InlineData(0xFEE0_0000UL, "interrupt window [0xFEE00000, 0xFEEFFFFF]")]
    [InlineData(0xFEEF_F000UL, "interrupt window [0xFEE00000, 0xFEEFFFFF]")]
    public void ReservedWindowsAreNamed(ulong address, string window)
    {
        DmaReport report = Synthesize(new(address), DmaAccess.Read);
        Assert.Equal((DmaReportKind.ReservedWindow, window), (report.Kind, report.Window));
    }

    // Seen failing: the window of a PC known by heart.
    [Fact]
    public void AMachineWithoutAnInterruptWindowHasNoneInItsReports()
    {
        using TestPlatform platform = new() { InterruptWindow = null };
        using DmaSystem system = platform.Start(InvalidationPolicy.Strict);
        List<DmaReport> reports = [];
        system.Reported += reports.Add;
        system.Faults.OnFault(Fault(new(0xFEE0_0000), DmaAccess.Write));
        system.Faults.OnFault(Fault(new(0xE000_0000), DmaAccess.Write));
        system.DeliverReports();
        Assert.Equal([DmaReportKind.NeverMapped, DmaReportKind.ReservedWindow], reports.Select(static one => one.Kind));
        Assert.Equal([null, "bus window [0xE0000000, 0xEFFFFFFF]"], reports.Select(static one => one.Window));
    }

    [Theory]
    [InlineData(0xDFFF_F000UL)]
    [InlineData(0xF000_0000UL)]
    [InlineData(0xFEDF_F000UL)]
    [InlineData(0xFEF0_0000UL)]
    public void WhatIsBesideAReservedWindowIsNot(ulong address) =>
        Assert.Equal(DmaReportKind.NeverMapped, Synthesize(new(address), DmaAccess.Read).Kind);

    [Fact]
    public void ADeviceWithoutAdapterIsNotAttached()
    {
        PciAddress rogue = PciAddress.From(0, 9, 0);
        DmaReport report = Blocked(new(0x5000), DmaAccess.Write, rogue);
        Assert.Equal((DmaReportKind.NotAttached, (string?)null, (string?)null),
            (report.Kind, report.Driver, report.LikelyCause));
        Assert.StartsWith("DMA blocked: write by a device that is not attached\n  device 0000:00:09.0 wrote",
            report.ToString(), StringComparison.Ordinal);
        _edu.Dispose();
        DmaReport late = Blocked(new(0x5000), DmaAccess.Write, Edu);
        Assert.Equal(("edu", "the driver disposed its adapter while the device still worked"),
            (late.Driver, late.LikelyCause));
    }

    [Theory]
    [InlineData(FaultCause.MalformedTables)]
    [InlineData(FaultCause.TableUnreachable)]
    [InlineData(FaultCause.RequestBlocked)]
    [InlineData(FaultCause.Other)]
    public void WhatMappingsCannotExplainIsNotPinnedOnOne(FaultCause cause)
    {
        ScatterGatherLease list = SubmitRead(4096, DmaDirection.ToDevice);
        DmaReport report = Synthesize(list[0].Address, DmaAccess.Write, cause);
        Assert.Equal((DmaReportKind.Unclassified, (MappingRecord?)null), (report.Kind, report.Mapping));
    }

    [Fact]
    public void AUnitThatRecordsBytesGetsByteAnswers()
    {
        ScatterGatherLease list = SubmitRead(6000, DmaDirection.ToDevice);
        DmaReport inside = Synthesize(list[0].Address + 4100, DmaAccess.Write, granularityLog2: 0);
        Assert.Equal((DmaReportKind.WrongDirection, 4100UL), (inside.Kind, inside.Offset));
        Assert.Contains("is byte 4100 of mapping #1", inside.ToString(), StringComparison.Ordinal);
        DmaReport slack = Synthesize(list[0].Address + 6001, DmaAccess.Write, granularityLog2: 0);
        Assert.Equal((DmaReportKind.WrongDirection, (ulong?)null), (slack.Kind, slack.Offset));
    }

    [Fact]
    public void EveryKindHasAKebabCaseName() => Assert.Equal(
        ["never-mapped", "address-zero", "past-the-end", "before-the-start", "after-unmap", "wrong-direction",
            "another-device",
            "physical-address", "poison-pattern", "reserved-window", "not-attached", "unclassified"],
        Enum.GetValues<DmaReportKind>().Select(static k => k.ToName()));

    // Seen failing: the quarter counted over all devices, so the quiet one went unexplained.
    [Fact]
    public void ANoisyDeviceHidesNobodyAndEveryFaultIsCounted()
    {
        for (int i = 0; i < 1000; i++) { _system.Faults.OnFault(Fault(new(0x5000), DmaAccess.Read)); }
        _system.Faults.OnFault(Fault(new(0x6000), DmaAccess.Read) with { Device = Edu });
        _system.Faults.OnFaultsLost(3);
        Assert.Empty(_reports);
        Assert.Equal(65, _system.DeliverReports());
        Assert.Equal(64, _reports.Count(static r => r.Driver == "nvme"));
        Assert.Equal(Edu, _reports[^1].Fault.Device);
        DmaStatistics now = _system.Statistics;
        Assert.Equal((1001L, 936L, 3L), (now.Blocked, now.ReportsDropped, now.Lost));
    }

    [Fact]
    public void ASubscriberThatThrowsHurtsNobody()
    {
        _system.Reported += static _ => throw new FormatException();
        int second = 0;
        _system.Reported += _ => second += 1 + _system.DeliverReports();
        Blocked(new(0x5000), DmaAccess.Read);
        Assert.Equal(1, second);
        Assert.IsType<FormatException>(Assert.Single(_system.SubscriberFailures));
        Assert.Equal(1, _system.Statistics.SubscriberFailures);
    }

    [Fact]
    public void TheTimerDeliversWithoutBeingAsked()
    {
        Assert.False(_platform.DmaRead(Nvme, new(0x5000), new byte[1]));
        _platform.RunInterrupts();
        Assert.Empty(_reports);
        _platform.TestClock.FireTimers();
        Assert.Single(_reports);
    }

    private DmaReport Synthesize(
        LogicalAddress address, DmaAccess access, FaultCause cause = FaultCause.AccessDenied, int granularityLog2 = 12)
    {
        _system.Faults.OnFault(Fault(address, access) with { Cause = cause, GranularityLog2 = granularityLog2 });
        _system.DeliverReports();
        DmaReport report = Assert.Single(_reports);
        _reports.Clear();
        return report;
    }

    private static DmaFault Fault(LogicalAddress address, DmaAccess access) =>
        new(Nvme, address, 12, access, FaultCause.AccessDenied, 6, "VT-d reason 0x06, read permission", 0);

    private sealed class Names : IPhysicalRegionNames
    {
        public string? NameOf(PhysicalAddress address) => address.Value == TestPlatform.Low ? "interrupt table" : null;
    }
}
