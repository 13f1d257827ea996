using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>What a naive decoder, written apart from the formats, says of one address.</summary>
public readonly record struct NaiveAnswer(ulong? Physical, DmaAccess Access, int PageSizeLog2)
{
    public static NaiveAnswer Nothing => new(null, DmaAccess.None, 0);
}

/// <summary>Reads one little-endian 64-bit word of physical memory.</summary>
public delegate ulong WordReader(ulong physicalAddress);

/// <summary>Translates by the specification's picture, one line per bit, knowing nothing of the library.</summary>
public delegate NaiveAnswer NaiveWalk(WordReader read, ulong root, ulong address);

/// <summary>
/// A set of tables of one format in a memory of its own, with the operations the property tests need.
/// </summary>
public abstract class TestedTable : IDisposable
{
    public const ulong MemoryBytes = 64 << 20;
    public const ulong FirstFrame = 0x10_0000;

    protected TestedTable()
    {
        Banks = new(new MemoryBank(new(0), NativeBlock.Allocate(MemoryBytes), 0, MemoryBytes));
        Memory = Banks.Memory;
        Frames = new(Memory, FirstFrame, MemoryBytes);
    }

    public MemoryBanks Banks { get; }
    public PhysicalMemory Memory { get; }
    public TestFrames Frames { get; }
    public PageTableRoot Root { get; protected set; }
    public required NaiveWalk Naive { get; init; }
    public int RootFrames { get; protected set; }

    public abstract int GranuleLog2 { get; }
    public abstract int TableEntries { get; }
    public abstract int EntrySizeLog2 { get; }
    public abstract int PhysicalBits { get; }
    public abstract ulong PageSizes { get; }
    public abstract DmaAccess Granted(DmaAccess access);
    public abstract PageTableChange Map(LogicalRange range, PhysicalAddress first, DmaAccess access);
    public abstract PageTableChange MapPages(LogicalAddress first, ReadOnlySpan<PhysicalAddress> pages,
        DmaAccess access);
    public abstract PageTableChange Unmap(LogicalRange range, ref TableGather gather);
    public abstract Translation Walk(LogicalAddress address);
    public abstract PageTableChange ChangeAccess(LogicalRange range, DmaAccess access);
    public abstract PageTableChange UnmapSplitting(LogicalRange range, ref TableGather gather);
    public abstract PageTableChange ChangeAccessSplitting(LogicalRange range, DmaAccess access);
    public abstract PageTableStatus Split(LogicalRange range);
    public abstract PageTableStatus Prepare(LogicalRange range);
    public abstract PageTableChange UnmapLeaves(LogicalRange range);
    public abstract PageTableListing List();
    public abstract bool RecordsDirty { get; }

    /// <summary>
    /// Sets the dirty bits of the smallest leaves that map these pages, which lie outside this memory, as hardware
    /// would.
    /// </summary>
    public abstract void SetDirty(IReadOnlySet<PhysicalAddress> pages);

    /// <summary>Takes the dirty marks off all leaves.</summary>
    public abstract void ClearDirty();

    /// <summary>
    /// Eight bytes of a table: most often an entry to one of the tables or a leaf, of any level, every third with a bit
    /// flipped.
    /// </summary>
    public abstract ulong HostileWord(Random random, ulong firstTable, ulong tables);

    /// <summary>
    /// Whether an entry passes the format's one compare for a table that restricts nothing; then the other members must
    /// say the same of it.
    /// </summary>
    public abstract bool PassesAsTable(ulong entry, int level);

    /// <summary>The entry the format writes for a table.</summary>
    public abstract ulong TableEntry(PhysicalAddress table, int level);

    public abstract PageTableStatus CollectDirty(LogicalRange range, bool clear, Span<ulong> dirty);

    /// <summary>Puts another top on the tables; later calls go through it.</summary>
    public abstract bool Grow();

    /// <summary>
    /// Ranges of logical addresses the tables translate: one, or two halves where addresses are sign-extended.
    /// </summary>
    public required IReadOnlyList<LogicalRange> Spaces { get; init; }

    public NaiveAnswer NaiveWalk(LogicalAddress address) =>
        Naive(at => Memory.TryRead64(new(at), out ulong word) ? word : 0, Root.Table.Value, address.Value);

    public void MoveRoot(PhysicalAddress table) => Root = Root with { Table = table };

    /// <summary>Unmaps and frees what was gathered, as after an invalidation.</summary>
    public PageTableChange UnmapAndFree(LogicalRange range)
    {
        TableGather gather = default;
        PageTableChange change = Unmap(range, ref gather);
        gather.Free(Memory, Frames);
        Assert.Equal(0, gather.Count);
        return change;
    }

    /// <summary>The same, splitting pages that the range begins or ends inside.</summary>
    public PageTableChange UnmapAndFreeSplitting(LogicalRange range)
    {
        TableGather gather = default;
        PageTableChange change = UnmapSplitting(range, ref gather);
        gather.Free(Memory, Frames);
        return change;
    }

    public void Dispose()
    {
        Banks.Dispose();
        GC.SuppressFinalize(this);
    }
}

/// <summary>The same over a format.</summary>
public sealed class TestedTable<TFormat> : TestedTable
    where TFormat : struct, IPageTableFormat<TFormat>
{
    public TestedTable(PageTableRoot shape)
    {
        int size = Math.Max(12, PageTable<TFormat>.RootSizeLog2(shape));
        Assert.True(Frames.TryAllocate(FrameKind.UnitTable, size, out PhysicalAddress root));
        Root = shape with { Table = root };
        RootFrames = Frames.Live;
    }

    public override int GranuleLog2 => TFormat.GranuleLog2;

    public override int TableEntries => 1 << TFormat.IndexBits;

    public override int EntrySizeLog2 => TFormat.EntrySizeLog2;

    public override int PhysicalBits => Math.Min(Root.PhysicalAddressBits, TFormat.PhysicalAddressBits);

    public override ulong PageSizes => TFormat.PageSizes(Root);

    public override DmaAccess Granted(DmaAccess access) => TFormat.Granted(access);

    public override PageTableChange Map(LogicalRange range, PhysicalAddress first, DmaAccess access) =>
        PageTable<TFormat>.Map(Memory, Root, Frames, range, first, access);

    public override PageTableChange MapPages(LogicalAddress first, ReadOnlySpan<PhysicalAddress> pages,
        DmaAccess access) =>
        PageTable<TFormat>.Map(Memory, Root, Frames, first, pages, access);

    public override PageTableChange Unmap(LogicalRange range, ref TableGather gather) =>
        PageTable<TFormat>.Unmap(Memory, Root, range, ref gather);

    public override Translation Walk(LogicalAddress address) => PageTable<TFormat>.Walk(Memory, Root, address);

    public override PageTableChange ChangeAccess(LogicalRange range, DmaAccess access) =>
        PageTable<TFormat>.ChangeAccess(Memory, Root, range, access);

    public override PageTableChange UnmapSplitting(LogicalRange range, ref TableGather gather) =>
        PageTable<TFormat>.Unmap(Memory, Root, range, ref gather, Frames);

    public override PageTableChange ChangeAccessSplitting(LogicalRange range, DmaAccess access) =>
        PageTable<TFormat>.ChangeAccess(Memory, Root, range, access, Frames);

    public override PageTableStatus Split(LogicalRange range) =>
        PageTable<TFormat>.Split(Memory, Root, Frames, range);

    public override PageTableStatus Prepare(LogicalRange range) =>
        PageTable<TFormat>.Prepare(Memory, Root, Frames, range);

    public override PageTableChange UnmapLeaves(LogicalRange range) =>
        PageTable<TFormat>.UnmapLeaves(Memory, Root, range);

    public override PageTableListing List() => PageTable<TFormat>.List(Memory, Root, new(1 << 19, 1 << 15));

    public override bool RecordsDirty => PageTable<TFormat>.RecordsDirty;

    public override void SetDirty(IReadOnlySet<PhysicalAddress> pages) =>
        Mark(word => pages.Contains(TFormat.Address(word, 0)), true);

    public override void ClearDirty() => Mark(static _ => true, false);

    private void Mark(Func<ulong, bool> isMeant, bool dirty)
    {
        foreach ((ulong frame, int size) in Frames.Allocated)
        {
            for (ulong at = frame; at < frame + (1UL << size); at += 8)
            {
                Memory.TryRead64(new(at), out ulong word);
                if (word != 0 && TFormat.IsPresent(word) && isMeant(word))
                {
                    Memory.TryWrite64(new(at), TFormat.WithDirty(word, dirty));
                }
            }
        }
    }

    public override ulong HostileWord(Random random, ulong firstTable, ulong tables)
    {
        ulong entry = HostileEntry(random, firstTable, tables);
        return TFormat.EntrySizeLog2 == 3 ? entry : entry << 32 | HostileEntry(random, firstTable, tables);
    }

    private ulong HostileEntry(Random random, ulong firstTable, ulong tables)
    {
        int level = random.Next(Root.TopLevel + 1);
        int table = Math.Max(12, TFormat.IndexBits + TFormat.EntrySizeLog2);
        ulong target = (firstTable + ((ulong)random.NextInt64((long)tables) << 12)) >> table << table;
        ulong entry = TFormat.Table(new(target), level);
        int kind = random.Next(100);
        if (kind < 45 || TFormat.IsFlat)
        {
            // A size of the level: sizes are ordered by level, so any not above the next level's smallest will do.
            int natural = TFormat.GranuleLog2 + level * TFormat.IndexBits;
            int size = natural + random.Next(3) * random.Next(TFormat.IndexBits);
            if ((PageSizes >> size & 1) == 0) { size = natural; }
            ulong anywhere = (ulong)random.NextInt64() & ((1UL << PhysicalBits) - 1);
            PhysicalAddress page = new PhysicalAddress(anywhere).AlignDown(size);
            entry = TFormat.Leaf(page, (DmaAccess)random.Next(1, 4), level, size);
        }
        if (kind % 3 == 0) { entry ^= 1UL << random.Next(8 << TFormat.EntrySizeLog2); }
        if (kind is 98) { entry = (ulong)random.NextInt64(long.MinValue, long.MaxValue); }
        if (kind is 97) { entry = 0; }
        if (TFormat.EntrySizeLog2 == 3) { return entry; }
        return TFormat.BigEndian ? System.Buffers.Binary.BinaryPrimitives.ReverseEndianness((uint)entry) : (uint)entry;
    }

    public override bool PassesAsTable(ulong entry, int level)
    {
        if ((entry & TFormat.TableMask(Root)) != TFormat.Table(default, level)) { return false; }
        Assert.True(TFormat.IsPresent(entry) && !TFormat.IsLeaf(entry, level));
        Assert.False(TFormat.HasReservedBits(entry, level, Root));
        Assert.Equal(DmaAccess.ReadWrite, TFormat.Access(entry, level, Root));
        Assert.Equal(level - 1, TFormat.NextLevel(entry, level));
        Assert.Equal(TFormat.Address(entry, level), TFormat.TableAddress(entry));
        return true;
    }

    public override ulong TableEntry(PhysicalAddress table, int level) => TFormat.Table(table, level);

    public override PageTableStatus CollectDirty(LogicalRange range, bool clear, Span<ulong> dirty) =>
        PageTable<TFormat>.CollectDirty(Memory, Root, range, clear, dirty);

    public override bool Grow()
    {
        bool grown = PageTable<TFormat>.TryGrow(Memory, Root, Frames, out PageTableRoot root);
        Root = root;
        return grown;
    }
}
