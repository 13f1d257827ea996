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

/// <summary>A set of tables of one format in a memory of its own, with the operations the property tests need.</summary>
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
    public abstract PageTableChange MapPages(LogicalAddress first, ReadOnlySpan<PhysicalAddress> pages, DmaAccess access);
    public abstract PageTableChange Unmap(LogicalRange range, ref TableGather gather);
    public abstract Translation Walk(LogicalAddress address);

    /// <summary>Ranges of logical addresses the tables translate: one, or two halves where addresses are sign-extended.</summary>
    public required IReadOnlyList<LogicalRange> Spaces { get; init; }

    public NaiveAnswer NaiveWalk(LogicalAddress address) =>
        Naive(at => Memory.TryRead64(new(at), out ulong word) ? word : 0, Root.Table.Value, address.Value);

    /// <summary>Unmaps and frees what was gathered, as after an invalidation.</summary>
    public PageTableChange UnmapAndFree(LogicalRange range)
    {
        TableGather gather = default;
        PageTableChange change = Unmap(range, ref gather);
        gather.Free(Memory, Frames);
        Assert.Equal(0, gather.Count);
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

    public override PageTableChange MapPages(LogicalAddress first, ReadOnlySpan<PhysicalAddress> pages, DmaAccess access) =>
        PageTable<TFormat>.Map(Memory, Root, Frames, first, pages, access);

    public override PageTableChange Unmap(LogicalRange range, ref TableGather gather) =>
        PageTable<TFormat>.Unmap(Memory, Root, range, ref gather);

    public override Translation Walk(LogicalAddress address) => PageTable<TFormat>.Walk(Memory, Root, address);
}
