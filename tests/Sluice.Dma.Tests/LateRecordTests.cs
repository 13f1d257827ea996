namespace Sluice.Dma.Tests;

/// <summary>
/// Records that are read late: what was mapped at the address after the DMA can have happened is not what the device
/// hit, and where several explain it the report says so.
/// </summary>
public sealed class LateRecordTests : IDisposable
{
    private static readonly PciAddress Nvme = FaultLab.Nvme;

    private readonly FaultLab _lab = new();
    private readonly DmaAdapter _nvme;
    private readonly DmaAdapter _edu;

    public LateRecordTests() => (_nvme, _edu) = (_lab.Create(Nvme), _lab.Create(FaultLab.Edu));

    public void Dispose() => _lab.Dispose();

    // Seen failing: only the last that is gone looked at, and what is live before all that is gone: the direction of
    // who came later, as the likely cause.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void AUseAfterPutIsNotTakenForTheDirectionOfWhoCameLater(bool put)
    {
        ScatterGatherLease first = _lab.Get(_nvme, DmaDirection.FromDevice, 1);
        LogicalAddress address = first[0].Address;
        _lab.System.DrainFaults();
        _nvme.PutScatterGatherList(first);
        _lab.Write(Nvme, address);
        ScatterGatherLease later = _lab.GetAt(_nvme, address, DmaDirection.ToDevice, 2);
        if (put) { _nvme.PutScatterGatherList(later); }
        DmaReport report = _lab.Read();
        Assert.Equal((DmaReportKind.AfterUnmap, 1u), (report.Kind, report.Mapping!.Value.Tag));
        // Both are possible, and it says so.
        Assert.Contains("less likely", report.LikelyCause, StringComparison.Ordinal);
        Assert.Equal(put ? null : 2u, report.LaterMapping?.Tag);
    }

    // Seen failing: an owner that would have been allowed preferred however long ago its end was.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void AnEndOfLongAgoDoesNotExplainWhatTheDirectionDoes(bool put)
    {
        ScatterGatherLease first = _lab.Get(_nvme, DmaDirection.FromDevice, 1);
        LogicalAddress address = first[0].Address;
        _nvme.PutScatterGatherList(first);
        _lab.Clock.Nanoseconds += 1_000_000_000;
        ScatterGatherLease second = _lab.GetAt(_nvme, address, DmaDirection.ToDevice, 2);
        _lab.System.DrainFaults();
        _lab.Write(Nvme, address);
        if (put) { _nvme.PutScatterGatherList(second); }
        DmaReport report = _lab.Read();
        Assert.Equal((DmaReportKind.WrongDirection, 2u, (string?)null),
            (report.Kind, report.Mapping!.Value.Tag, report.LikelyCause));
    }

    // Seen failing: the one for the other direction named because it is one, though it ended long before the DMA.
    [Fact]
    public void OfTwoThatAreGoneTheOneWhoseEndExplainsItIsTheOnlyAnswer()
    {
        ScatterGatherLease first = _lab.Get(_nvme, DmaDirection.ToDevice, 1);
        LogicalAddress address = first[0].Address;
        _nvme.PutScatterGatherList(first);
        _lab.Clock.Nanoseconds += 1_000_000_000;
        ScatterGatherLease second = _lab.GetAt(_nvme, address, DmaDirection.FromDevice, 2);
        _lab.System.DrainFaults();
        _nvme.PutScatterGatherList(second);
        _lab.Write(Nvme, address);
        DmaReport report = _lab.Read();
        Assert.Equal((DmaReportKind.AfterUnmap, 2u), (report.Kind, report.Mapping!.Value.Tag));
        Assert.Equal("the driver completed the request while the device still worked on it", report.LikelyCause);
    }

    // Seen failing: "gone for 0 ns", which says that it was gone when the record was read.
    [Theory]
    [InlineData(0, 0L, "gone for 0 ns")]
    [InlineData(1, null, "gone")]
    public void WhatEndedAfterItsRecordWasReadHasNoTimeBetween(long later, long? goneFor, string text)
    {
        DmaFault fault = FaultLab.FaultAt(Nvme, default) with { Nanoseconds = _lab.Clock.Nanoseconds };
        _lab.Clock.Nanoseconds += later;
        _lab.System.Faults.OnFault(fault with { Address = _lab.GetAndPut(_nvme) });
        DmaReport report = _lab.Read();
        Assert.Equal((DmaReportKind.AfterUnmap, goneFor), (report.Kind, report.GoneForNanoseconds));
        Assert.Contains($"(4096 bytes, FromDevice), {text}\n", report.ToString(), StringComparison.Ordinal);
        Assert.Equal(goneFor is not null, report.ToJson().Contains("goneForNs", StringComparison.Ordinal));
    }

    // Seen failing: another device's mapping judged by what is live when the record is read.
    [Fact]
    public void AMappingThatCameLaterIsNotWhatTheDeviceHit()
    {
        ScatterGatherLease probe = _lab.Get(_edu, DmaDirection.FromDevice, 1);
        LogicalAddress address = probe[0].Address;
        _edu.PutScatterGatherList(probe);
        _lab.System.DrainFaults();
        _lab.Write(Nvme, address);
        _lab.GetAt(_edu, address, DmaDirection.FromDevice, 2);
        DmaReport report = _lab.Read();
        Assert.NotEqual(DmaReportKind.AnotherDevice, report.Kind);
        Assert.Equal((null, 2u), (report.Mapping, report.LaterMapping?.Tag));
    }

    // Seen failing: every mapping of a busy driver taken for one that came later: nothing was ever another device's.
    [Fact]
    public void AMappingOfAnotherDeviceThatWasThereAtTheLastLookIsNamed()
    {
        ScatterGatherLease theirs = _lab.Get(_edu, DmaDirection.FromDevice, 1);
        _lab.Clock.Nanoseconds += 1_000;
        _lab.System.DrainFaults();
        _lab.Write(Nvme, theirs[0].Address);
        for (int i = 0; i < 100; i++) { _edu.PutScatterGatherList(_lab.Get(_edu, DmaDirection.FromDevice, 2)); }
        DmaReport report = _lab.Read();
        Assert.Equal((DmaReportKind.AnotherDevice, 1u), (report.Kind, report.Mapping?.Tag));
    }
}
