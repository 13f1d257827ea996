using Sluice.Iommu.Vtd;

namespace Sluice.Iommu.Tests;

/// <summary>Every fault reason, by tables written as raw words, with the exact 128 bits of its record.</summary>
public sealed class FaultReasonTests
{
    private const ushort Nic = 0x0120;
    private const ulong Address = 0x4000_0000;

    private static Rig Working(out ulong leaf, out ulong top, VtdOptions? options = null)
    {
        Rig rig = new(options);
        top = rig.Attach(Nic, domain: 7);
        leaf = rig.Map(top, 3, Address, 0x80_0000);
        rig.Enable();
        return rig;
    }

    // Every reason is one case: (how to break a working set of tables, access, address, reason).
    // Seen failing: reasons 5 and 6 exchanged; T set for writes; the address recorded with its byte offset;
    // the width check after the walk; HAW ignored in the context check.
    [Theory]
    [InlineData("none", 0x4000_0123UL, 0)]
    [InlineData("root absent", 0x4000_0123UL, 1)]
    [InlineData("context absent", 0x4000_0123UL, 2)]
    [InlineData("type 1", 0x4000_0123UL, 3)]
    [InlineData("type 3", 0x4000_0123UL, 3)]
    [InlineData("width 0", 0x4000_0123UL, 3)]
    [InlineData("width 4", 0x4000_0123UL, 3)]
    [InlineData("none", 0x1_0000_0000_0000UL, 4)]
    [InlineData("none", 0xFFFF_FFFF_FFFF_FFFFUL, 4)]
    [InlineData("none", 0x4000_1000UL, 5)]
    [InlineData("table outside", 0x4000_0123UL, 7)]
    [InlineData("root outside", 0x4000_0123UL, 8)]
    [InlineData("context outside", 0x4000_0123UL, 9)]
    [InlineData("root reserved", 0x4000_0123UL, 0xA)]
    [InlineData("root high reserved", 0x4000_0123UL, 0xA)]
    [InlineData("root above width", 0x4000_0123UL, 0xA)]
    [InlineData("context reserved", 0x4000_0123UL, 0xB)]
    [InlineData("context high reserved", 0x4000_0123UL, 0xB)]
    [InlineData("context above width", 0x4000_0123UL, 0xB)]
    [InlineData("leaf above width", 0x4000_0123UL, 0xC)]
    [InlineData("large at level 3", 0x4000_0123UL, 0xC)]
    [InlineData("leaf in window", 0x4000_0123UL, 0xE)]
    [InlineData("none", 0xFEE0_0000UL, 0xE)]
    [InlineData("none", 0xFEEF_FFFFUL, 0xE)]
    [InlineData("wrong mode", 0x4000_0123UL, 0x30)]
    [InlineData("not set", 0x4000_0123UL, 8)]
    public void EachReasonHasItsExactRecord(string damage, ulong address, int reason)
    {
        foreach (DmaAccess access in (DmaAccess[])[DmaAccess.Write, DmaAccess.Read, DmaAccess.ReadWrite])
        {
            using Rig rig = Working(out ulong leaf, out ulong top);
            Break(rig, damage, leaf, top);
            bool read = access != DmaAccess.Write;
            int expected = reason == 5 && read ? 6 : reason;
            Assert.Equal(expected == 0, rig.Translate(Nic, address, access, out PhysicalRun run));
            if (expected == 0)
            {
                Assert.Equal(new(new(0x80_0123), 0xEDD), run);
                Assert.Equal(0u, rig.FaultStatus);
                continue;
            }
            Assert.Equal(default, run);
            Assert.Equal(2u, rig.FaultStatus);
            (ulong low, ulong high) = rig.Record(0);
            Assert.Equal(address & ~0xFFFUL, low);
            Assert.Equal((read ? 0xC000_0000_0000_0120UL : 0x8000_0000_0000_0120UL) | (ulong)expected << 32, high);
        }
    }

    private static void Break(Rig rig, string damage, ulong leaf, ulong top)
    {
        ulong rootEntry = Rig.Root + 16;
        ulong context = rig.ContextAt(Nic);
        switch (damage)
        {
            case "none": break;
            case "root absent": rig.Poke(rootEntry, rig.Peek(rootEntry) & ~1UL); break;
            case "context absent": rig.Poke(context, rig.Peek(context) & ~1UL); break;
            case "type 1": rig.Poke(context, rig.Peek(context) | 4); break;
            case "type 3": rig.Poke(context, rig.Peek(context) | 12); break;
            case "width 0": rig.Poke(context + 8, 0x700); break;
            case "width 4": rig.Poke(context + 8, 0x704); break;
            case "table outside": rig.Poke(top, 0x7FFF_F000_0003); break;
            case "root outside": Relatch(rig, 0x7FFF_F000_0000); break;
            case "context outside": rig.Poke(rootEntry, 0x7FFF_F000_0001); break;
            case "root reserved": rig.Poke(rootEntry, rig.Peek(rootEntry) | 2); break;
            case "root high reserved": rig.Poke(rootEntry + 8, 1); break;
            case "root above width": rig.Poke(rootEntry, rig.Peek(rootEntry) | 1UL << 48); break;
            case "context reserved": rig.Poke(context, rig.Peek(context) | 1 << 4); break;
            case "context high reserved": rig.Poke(context + 8, rig.Peek(context + 8) | 1 << 24); break;
            case "context above width": rig.Poke(context, rig.Peek(context) | 1UL << 48); break;
            case "leaf above width": rig.Poke(leaf, rig.Peek(leaf) | 1UL << 48); break;
            case "large at level 3": rig.Poke(top, rig.Peek(top) | 0x80); break;
            case "leaf in window": rig.Poke(leaf, 0xFEE0_1003); break;
            case "wrong mode": Relatch(rig, Rig.Root | 1 << 10); break;
            case "not set":
                rig.Unit.Reset();
                rig.Registers.Write32(0x18, 1u << 31);
                break;
            default: Assert.Fail(damage); break;
        }
    }

    private static void Relatch(Rig rig, ulong root)
    {
        rig.Registers.Write64(0x20, root);
        rig.Registers.Write32(0x18, rig.Registers.Read32(0x1C) | 1u << 30);
    }

    [Theory]
    [InlineData(DmaAccess.Read, 2UL, 6)]
    [InlineData(DmaAccess.Write, 1UL, 5)]
    [InlineData(DmaAccess.ReadWrite, 1UL, 5)]
    [InlineData(DmaAccess.ReadWrite, 2UL, 6)]
    public void ACachedPageWithoutTheRightRefusesAndIsRecorded(DmaAccess access, ulong rights, int reason)
    {
        using Rig rig = Working(out ulong leaf, out _);
        rig.Poke(leaf, 0x80_0000 | rights);
        Assert.True(rig.Translate(Nic, Address, (DmaAccess)rights, out _));
        Assert.Equal(reason, rig.ReasonOf(Nic, Address, access));
        Assert.Equal((2, 1), (rig.Port.Hits + rig.Port.Misses, rig.Port.Refused));
    }

    // Seen failing: FPD taken from the low bit of TT, in an entry that is kept and in one that refuses.
    [Fact]
    public void FaultsDisabledSilencesExactlyTheQualifiedFaults()
    {
        using Rig rig = Working(out ulong leaf, out _);
        ulong context = rig.ContextAt(Nic);
        rig.Poke(context, rig.Peek(context) | 2);
        Assert.Null(rig.Physical(Nic, 0x4000_1000));
        Assert.Null(rig.Physical(Nic, 1UL << 50));
        rig.Poke(leaf, 0x80_0000);
        Assert.Null(rig.Physical(Nic, Address));
        rig.Poke(rig.ContextAt(0x0130), 2);
        Assert.Null(rig.Physical(0x0130, Address));
        Assert.Equal((0u, 4L), (rig.FaultStatus, rig.Unit.Counters.FaultsSuppressed));
        rig.Poke(Rig.Root + 16, 0);
        Assert.Null(rig.Physical(0x0128, Address));
        Assert.Equal((2u, 1L), (rig.FaultStatus, rig.Unit.Counters.FaultsRecorded));
    }

    [Fact]
    public void DomainIdsWiderThanTheUnitsAreReservedBits()
    {
        using Rig rig = Working(out _, out _, new() { DomainIdBits = 8 });
        rig.Poke(rig.ContextAt(Nic) + 8, 0x100 << 8 | 2);
        Assert.Equal(0xB, rig.ReasonOf(Nic, Address, DmaAccess.Read));
    }

    [Fact]
    public void TheUnitsOwnWidthAndTypesDecideWhatIsValid()
    {
        using Rig five = Working(out _, out _, VtdOptions.Qemu);
        five.Poke(five.ContextAt(Nic) + 8, 0x703);
        Assert.Equal(3, five.ReasonOf(Nic, Address, DmaAccess.Read));
        using Rig pass = Working(out _, out _, new() { PassThrough = false });
        pass.Poke(pass.ContextAt(Nic), pass.Peek(pass.ContextAt(Nic)) | 8);
        Assert.Equal(3, pass.ReasonOf(Nic, Address, DmaAccess.Read));
    }

    [Fact]
    public void OnlyAlignedFourByteWritesInTheWindowAreInterrupts()
    {
        using Rig rig = Working(out _, out _);
        rig.Port.Enter();
        MsiMessage good = new(new(0xFEE0_1004), 0x41);
        Assert.True(rig.Unit.TryRemapInterrupt(rig.Port, Rig.Source(Nic), good, out MsiMessage delivered));
        Assert.Equal(good, delivered);
        Assert.False(rig.Unit.TryRemapInterrupt(rig.Port, Rig.Source(Nic), new(new(0xFEE0_1002), 1), out delivered));
        Assert.False(rig.Unit.TryRemapInterrupt(rig.Port, Rig.Source(Nic), new(new(0xFED0_0000), 1), out _));
        rig.Port.Exit();
        Assert.Equal(default, delivered);
        Assert.Equal((0xFEE0_1000UL, 0x8000_000E_0000_0120UL), rig.Record(0));
        Assert.Equal((1L, 1L), (rig.Unit.Counters.FaultsRecorded, rig.Unit.Counters.FaultsCompressed));
    }
}
