namespace Sluice.Iommu.Tests;

/// <summary>
/// What a legacy unit does with requests that its mode does not know: PASIDs, translated and translation requests,
/// sources that are not on PCI. Default deny, also where a plain request would hit the caches.
/// </summary>
public sealed class RequestKindTests
{
    private const ushort Nic = 0x0108;
    private static readonly DmaRequest Plain = new(Rig.Source(Nic), new(0x1234), DmaAccess.Read);

    private static Rig Warm()
    {
        Rig rig = new();
        rig.Map(rig.Attach(Nic, 1), 3, 0x1000, 0x80_0000);
        rig.Enable();
        Assert.True(Pass(rig, Plain));
        Assert.True(Pass(rig, Plain));
        Assert.Equal(1, rig.Port.Hits);
        return rig;
    }

    private static bool Pass(Rig rig, in DmaRequest request)
    {
        rig.Port.Enter();
        bool passed = rig.Unit.TryTranslate(rig.Port, request, out PhysicalRun run);
        rig.Port.Exit();
        Assert.Equal(passed, run.Length != 0);
        return passed;
    }

    // Seen failing: the hit path without its look at IsPlain.
    [Fact]
    public void APasidIsRefusedWithReason31AndRecorded()
    {
        using Rig rig = Warm();
        Assert.False(Pass(rig, Plain with { Pasid = new Pasid(0x12345) }));
        Assert.Equal((0x1000UL, 0xC123_4531_8000_0000UL | Nic), rig.Record(0));
        rig.FreeAllRecords();
        Assert.False(Pass(rig, Plain with { Pasid = new Pasid(0) }));
        Assert.Equal((0x1000UL, 0xC000_0031_8000_0000UL | Nic), rig.Record(1));
    }

    // Seen failing: the kind not looked at after the context was found.
    [Theory]
    [InlineData(DmaRequestKind.Translated, 0xE000_000D_0000_0000UL)]
    [InlineData(DmaRequestKind.TranslationRequest, 0xD000_000D_0000_0000UL)]
    public void WhatNeedsADeviceTlbIsBlockedByEveryContext(DmaRequestKind kind, ulong record)
    {
        using Rig rig = Warm();
        DmaRequest request = Plain with { Kind = kind };
        Assert.False(Pass(rig, request));
        Assert.Equal((0x1000UL, record | Nic), rig.Record(0));
        rig.FreeAllRecords();
        // Whoever passes untranslated does not pass translated.
        rig.Attach(0x0200, 2, lowBits: 2 << 2);
        DmaRequest through = request with { Source = Rig.Source(0x0200) };
        Assert.True(Pass(rig, through with { Kind = DmaRequestKind.Untranslated }));
        Assert.False(Pass(rig, through));
        Assert.Equal(record | 0x0200, rig.Record(1).High);
        // A function without a context has that as its reason.
        rig.FreeAllRecords();
        Assert.False(Pass(rig, request with { Source = Rig.Source(0x0109) }));
        Assert.Equal((record & ~0xFF_0000_0000UL) | 2UL << 32 | 0x0109, rig.Record(2).High);
    }

    // Seen failing: everything let through while translation is off.
    [Fact]
    public void AUnitThatIsOffPassesPlainDmaOnlyAndRecordsNothing()
    {
        using Rig rig = new();
        Assert.True(Pass(rig, Plain));
        Assert.True(Pass(rig, Plain with { Pasid = new Pasid(1) }));
        Assert.False(Pass(rig, Plain with { Kind = DmaRequestKind.Translated }));
        Assert.False(Pass(rig, Plain with { Kind = DmaRequestKind.TranslationRequest }));
        Assert.Equal((0u, 2L, 2L), (rig.FaultStatus, rig.Unit.Counters.FaultsSuppressed, rig.Unit.Counters.Refused));
    }

    // Seen failing: the context cache's key without the bit that marks a stream.
    [Fact]
    public void AStreamIsAnErrorOfWhoWiredItAndFindsNoCachedFunction()
    {
        using Rig rig = Warm();
        rig.Port.Enter();
        DmaRequest request = Plain with { Source = SourceId.OfStream(Nic) };
        var thrown = Assert.Throws<ArgumentException>(() => rig.Unit.TryTranslate(rig.Port, request, out _));
        rig.Port.Exit();
        Assert.Contains("stream 264", thrown.Message, StringComparison.Ordinal);
        Assert.Equal(1, rig.Port.Hits);
    }

    // Seen failing: the whole key compared, segment and all.
    [Fact]
    public void AContextInvalidationDropsTheFunctionWhateverItsSegment()
    {
        using Rig rig = Warm();
        DmaRequest request = Plain with { Source = new PciAddress(3, new(Nic)) };
        Assert.True(Pass(rig, request));
        rig.Poke(rig.ContextAt(Nic), 0);
        rig.SubmitAndWait((0x31UL | (ulong)Nic << 32, 0UL));
        Assert.False(Pass(rig, request));
        Assert.False(Pass(rig, Plain));
    }
}
