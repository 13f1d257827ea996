using Sluice.Formats.Acpi;

namespace Sluice.Formats.Tests.Acpi;

/// <summary>Tables as firmware really leaves them: padded, cut, doubled, and found in unusual places.</summary>
public sealed class OddTableTests : IDisposable
{
    private const ulong Bytes = 0x40_0000;
    private readonly MemoryBanks _banks = new(new MemoryBank(new(0), NativeBlock.Allocate(Bytes), 0, Bytes));

    private PhysicalMemory Memory => _banks.Memory;

    public void Dispose() => _banks.Dispose();

    // Seen failing: the whole file taken for the table: the structure behind it was a third unit.
    [Fact]
    public void WhatLiesBehindATableIsNotPartOfIt()
    {
        byte[] bytes = AcpiVectors.Dmar();
        AcpiTable table = Take([.. bytes, .. bytes.AsSpan(48, 32), 7, 7]);
        Assert.Equal(bytes, table.Bytes.ToArray());
        Assert.True(table.IsChecksumValid);
        DmarTable dmar = DmarTable.Parse(table);
        Assert.Equal(2, dmar.Units.Count);
        Assert.Empty(dmar.Diagnostics);
        Assert.Empty(McfgTable.Parse(Take([.. AcpiVectors.Mcfg(), 1, 2, 3, .. new byte[16]])).Diagnostics);
    }

    // Seen failing: 16 zeros read as a structure of no length, and as configuration space at address 0.
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(16)]
    [InlineData(4000)]
    public void ZerosThatPadATableAreNoMistake(int zeros)
    {
        DmarTable dmar = DmarTable.Parse(Take(AcpiVectors.Seal([.. AcpiVectors.Dmar(), .. new byte[zeros]])));
        Assert.Empty(dmar.Diagnostics);
        Assert.Equal(2, dmar.Units.Count);
        McfgTable mcfg = McfgTable.Parse(Take(AcpiVectors.Seal([.. AcpiVectors.Mcfg(), .. new byte[zeros]])));
        Assert.Empty(mcfg.Diagnostics);
        Assert.Equal(2, mcfg.Windows.Count);
        // And zeros behind the last scope of a structure: here SIDP, the last of the table.
        byte[] padded = [.. AcpiVectors.Dmar(), .. new byte[zeros % 200]];
        BitConverter.TryWriteBytes(padded.AsSpan(padded.Length - (zeros % 200) - 14), (ushort)(16 + (zeros % 200)));
        DmarTable inside = DmarTable.Parse(Take(AcpiVectors.Seal(padded)));
        Assert.Empty(inside.Diagnostics);
        Assert.Single(Assert.Single(inside.IntegratedDevices).Scopes);
        // Not zeros: told as before.
        byte[] junk = AcpiVectors.Seal([.. AcpiVectors.Dmar(), .. new byte[zeros], 1]);
        Assert.NotEmpty(DmarTable.Parse(Take(junk)).Diagnostics);
    }

    // Seen failing: a table whose length passes the file's end read without a word.
    [Fact]
    public void ALengthBeyondTheBytesIsTold()
    {
        byte[] bytes = AcpiVectors.Dmar();
        Told(AcpiProblem.CutShort, bytes[..80]);
        BitConverter.TryWriteBytes(bytes.AsSpan(4), AcpiTable.MaximumLength + 1);
        Told(AcpiProblem.TableTooLong, bytes);
        BitConverter.TryWriteBytes(bytes.AsSpan(4), 47);
        Told(AcpiProblem.TableTooShort, bytes);
        BitConverter.TryWriteBytes(bytes.AsSpan(4), 0);
        Told(AcpiProblem.TableTooShort, bytes);
        Assert.False(AcpiTable.TryTake(bytes.AsMemory(0, 35), out _));
        Assert.Throws<ArgumentException>(() => new AcpiTable(default, new byte[35]));

        static void Told(AcpiProblem problem, byte[] table) =>
            Assert.Contains(DmarTable.Parse(Take(table)).Diagnostics, one => one.Problem == problem);
    }

    [Fact]
    public void AReversedRegionIsToldAndLeftOut()
    {
        byte[] bytes = AcpiVectors.Dmar();
        int region = bytes.AsSpan().IndexOf("\x01\0\x22\0"u8);
        bytes[region + 18] = 0x7F;
        bytes[region + 19] = 0x7B;
        DmarTable dmar = DmarTable.Parse(Take(AcpiVectors.Seal(bytes)));
        AcpiDiagnostic told = Assert.Single(dmar.Diagnostics);
        Assert.Equal(AcpiProblem.ReversedRange, told.Problem);
        Assert.Equal(region + 8, told.Offset);
        Assert.Empty(dmar.ReservedRegions);
    }

    // Seen failing: only 0xE0000 to 0xFFFFF searched.
    [Fact]
    public void ARootPointerInTheExtendedDataAreaIsFound()
    {
        PutTables();
        Put(0x40E, [0xC0, 0x9F]);
        Put(0x9_FDF0, AcpiVectors.RootPointer(0, 0x1F_2000));
        Assert.Equal(new PhysicalAddress(0x9_FDF0), AcpiTables.Find(Memory).RootPointer);
        Assert.Equal(["DMAR"], AcpiTables.Find(Memory).All.Select(static table => table.Signature));
    }

    [Theory]
    [InlineData(0x0000, 0x0_0400)] // no segment
    [InlineData(0x0020, 0x0_0200)] // inside the interrupt vectors
    [InlineData(0xA000, 0xA_0000)] // video memory
    [InlineData(0xFFFF, 0x10_0000)]
    [InlineData(0x9FC0, 0xA_0000)] // behind the first KiB
    [InlineData(0x9FC0, 0x9_FC08)] // not at a multiple of 16
    public void ARootPointerElsewhereIsNot(int segment, ulong at)
    {
        PutTables();
        Put(0x40E, [(byte)segment, (byte)(segment >> 8)]);
        byte[] root = AcpiVectors.RootPointer(0, 0x1F_2000);
        Put(at, root);
        if (segment == 0) { Put(0x40E, [0, 0]); }
        AcpiTables tables = AcpiTables.Find(Memory);
        Assert.Null(tables.RootPointer);
        Assert.Equal(AcpiProblem.NoRootPointer, Assert.Single(tables.Diagnostics).Problem);
    }

    // Seen failing: the host's word left out.
    [Fact]
    public void ARootPointerThatTheHostKnowsIsTakenAndNothingIsSearched()
    {
        PutTables();
        Put(0x2A_0008, AcpiVectors.RootPointer(0, 0x1F_2000));
        Assert.Equal(["DMAR"], AcpiTables.Find(Memory, new PhysicalAddress(0x2A_0008)).All.Select(one => one.Signature));
        Put(0xF_0000, AcpiVectors.RootPointer(0, 0x1F_2000));
        foreach (ulong wrong in (ulong[])[0, 0x2A_0000, Bytes - 8, Bytes, ulong.MaxValue - 3])
        {
            AcpiTables none = AcpiTables.Find(Memory, new PhysicalAddress(wrong));
            Assert.Null(none.RootPointer);
            Assert.Empty(none.All);
            Assert.Contains(new PhysicalAddress(wrong).ToString(), Assert.Single(none.Diagnostics).Detail,
                StringComparison.Ordinal);
        }
    }

    // Seen failing: one table of 1 MiB listed 1024 times was read 1024 times.
    [Fact]
    public void ARootTableThatListsALargeTableOverAndOverIsCutOff()
    {
        byte[] large = AcpiVectors.Seal([.. "BIGG"u8, .. new byte[AcpiTable.MaximumLength - 4]]);
        Put(0x20_0000, large);
        Put(0x1F_2000, AcpiVectors.Root("XSDT", [.. Enumerable.Repeat(0x20_0000UL, 1024)]));
        Put(0xF_0000, AcpiVectors.RootPointer(0, 0x1F_2000));
        long before = GC.GetAllocatedBytesForCurrentThread();
        AcpiTables tables = AcpiTables.Find(Memory);
        Assert.Contains(tables.Diagnostics, static one => one.Problem == AcpiProblem.TooMany);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 80L << 20);
    }

    // Seen failing: 65,000 mistakes kept, a line each.
    [Fact]
    public void WhatIsMadeOfALargeTableIsBounded()
    {
        byte[] unknown = new byte[AcpiTable.MaximumLength];
        AcpiVectors.Dmar().AsSpan(0, 48).CopyTo(unknown);
        byte[] scopes = [.. unknown];
        byte[] units = [.. unknown];
        for (int at = 48; at + 4 <= unknown.Length; at += 4) { (unknown[at], unknown[at + 2]) = (9, 4); }
        for (int at = 48; at + 16 <= units.Length; at += 16) { (units[at + 2], units[at + 9]) = (16, 0x10); }
        for (int at = 48; at + 0xFFF8 <= scopes.Length; at += 0xFFF8)
        {
            BitConverter.TryWriteBytes(scopes.AsSpan(at + 2), (ushort)0xFFF8);
            scopes[at + 9] = 0x10;
            for (int one = at + 16; one + 8 <= at + 0xFFF8; one += 8) { (scopes[one], scopes[one + 1]) = (1, 8); }
        }
        foreach (byte[] table in (byte[][])[unknown, units, scopes])
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            DmarTable dmar = DmarTable.Parse(Take(AcpiVectors.Seal(table)));
            Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 16L << 20);
            Assert.Equal(AcpiProblem.TooMany, dmar.Diagnostics[^1].Problem);
            Assert.InRange(dmar.Diagnostics.Count, 1, 257);
        }
    }

    private static AcpiTable Take(byte[] bytes)
    {
        Assert.True(AcpiTable.TryTake(bytes, out AcpiTable? table));
        return table;
    }

    private void PutTables()
    {
        Put(0x1F_0000, AcpiVectors.Dmar());
        Put(0x1F_2000, AcpiVectors.Root("XSDT", 0x1F_0000));
    }

    private void Put(ulong at, byte[] bytes) => Assert.True(Memory.TryWrite(new(at), bytes));
}
