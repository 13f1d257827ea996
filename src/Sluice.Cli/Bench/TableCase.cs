using Sluice.Formats.PageTables;
using Sluice.Machines;

namespace Sluice.Cli.Bench;

/// <summary>What is done to the tables.</summary>
internal enum TableWork
{
    /// <summary>Translate 64 warm pages in turn.</summary>
    Walk,

    /// <summary>Map or unmap one page.</summary>
    Page,

    /// <summary>Map or unmap 256 pages in one call.</summary>
    Run256,
}

/// <summary>Page-table work in one format, tables only, held against the same on a flat array.</summary>
internal sealed class TableCase<TFormat> : BenchCase
    where TFormat : struct, IPageTableFormat<TFormat>
{
    private const int Pages = 256;
    private const int Walked = 64;
    private static readonly LogicalAddress First = new(32 << 20);
    private readonly TableWork _work;
    private readonly string _format;
    private readonly Machine _machine = Machine.Create(new() { MemoryBytes = 64UL << 20 });
    private readonly PageTableRoot _root;
    private readonly PhysicalAddress _physical;
    private readonly ulong[] _flat = new ulong[Pages];

    /// <summary>Empty tables; for walks, 64 pages are mapped.</summary>
    public TableCase(string format, TableWork work)
    {
        (_format, _work) = (format, work);
        PageTableOptions shape = new() { Root = default, Levels = format == "amdv1" ? 4 : null, Entries = 1 << 14 };
        if (!PageTableFormats.TryFind(format, shape, out IPageTableReader? reader, out string problem))
        {
            throw new CommandException(problem);
        }
        int size = Math.Max(12, PageTable<TFormat>.RootSizeLog2(reader.Root));
        if (!_machine.Frames.TryAllocate(FrameKind.UnitTable, size, out PhysicalAddress table))
        {
            throw new CommandException("the bench machine is too small");
        }
        _root = reader.Root with { Table = table };
        // One page askew of the logical addresses, so that no larger page ever fits.
        _physical = new PhysicalAddress(1 << 30) + (1UL << TFormat.GranuleLog2);
        if (work == TableWork.Walk) { Map(0, Walked); }
    }

    /// <inheritdoc/>
    public override string Name => NameOf(_work, _format);

    /// <inheritdoc/>
    public override string What => _work switch
    {
        TableWork.Walk => "one translation from the top table, 64 warm pages in turn",
        TableWork.Page => "map or unmap one page of the smallest size",
        _ => "map or unmap 256 pages of the smallest size in one call",
    };

    /// <inheritdoc/>
    public override double? GoalNanoseconds => _work switch { TableWork.Walk => 8, TableWork.Page => 25, _ => 300 };

    /// <inheritdoc/>
    public override string BaselineName => "flat array";

    /// <inheritdoc/>
    public override BenchAnchor? Anchor => (_work, _format) switch
    {
        (TableWork.Page, "x86") => new("Linux generic_pt, x86_64, one page: map 71, unmap 77", 71),
        (TableWork.Page, "amdv1") => new("Linux generic_pt, AMDv1, one page: map 65, unmap 76", 65),
        (TableWork.Page, "vtd-ss") => new("Linux generic_pt, one page, 60 to 77", 60),
        (TableWork.Run256, "x86") => new("Linux generic_pt, x86_64, 256 pages: map 392, unmap 225", 392),
        (TableWork.Run256, "amdv1") => new("Linux generic_pt, AMDv1, 256 pages: map 381, unmap 372", 381),
        (TableWork.Run256, "vtd-ss") => new("Linux generic_pt, 256 pages, 230 to 390", 230),
        _ => null,
    };

    /// <inheritdoc/>
    public override double ExpectedNanoseconds => _work switch { TableWork.Walk => 5, TableWork.Page => 20, _ => 250 };

    /// <summary>A row's name.</summary>
    public static string NameOf(TableWork work, string format) => work switch
    {
        TableWork.Walk => $"walk-{format}",
        TableWork.Page => $"map-page-{format}",
        _ => $"map-256-{format}",
    };

    /// <inheritdoc/>
    public override void Run(int operations)
    {
        switch (_work)
        {
            case TableWork.Walk: Walk(operations); break;
            case TableWork.Page: MapAndUnmap(operations / 2, 1); break;
            default: MapAndUnmap(operations / 2, Pages); break;
        }
    }

    /// <inheritdoc/>
    public override void RunBaseline(int operations)
    {
        ulong sum = 0;
        int pages = _work == TableWork.Run256 ? Pages : 1;
        for (int i = 0; i < operations; i++)
        {
            if (_work == TableWork.Walk) { sum += Volatile.Read(ref _flat[i & (Walked - 1)]); }
            else { _flat.AsSpan(i & (Pages - pages), pages).Fill((ulong)i); }
        }
        _flat[0] = sum;
    }

    private void Walk(int operations)
    {
        PhysicalMemory memory = _machine.Memory;
        for (int i = 0; i < operations; i++)
        {
            LogicalAddress address = First + ((ulong)(i & (Walked - 1)) << TFormat.GranuleLog2);
            Translation found = PageTable<TFormat>.Walk(memory, _root, address);
            if (found.Status != WalkStatus.Mapped) { throw new InvalidOperationException($"{_format}: {found}"); }
        }
    }

    private void MapAndUnmap(int pairs, int pages)
    {
        for (int i = 0; i < pairs; i++)
        {
            int at = i & (Pages - pages);
            Map(at, pages);
            TableGather gather = default;
            PageTable<TFormat>.Unmap(_machine.Memory, _root, Range(at, pages), ref gather);
            if (gather.Count != 0) { gather.Free(_machine.Memory, _machine.Frames); }
        }
    }

    private void Map(int at, int pages)
    {
        PageTableChange change = PageTable<TFormat>.Map(
            _machine.Memory, _root, _machine.Frames, Range(at, pages), _physical + ((ulong)at << TFormat.GranuleLog2),
            DmaAccess.ReadWrite);
        if (!change.IsDone) { throw new InvalidOperationException($"{_format}: {change}"); }
    }

    private static LogicalRange Range(int at, int pages) => LogicalRange.FromLength(
        First + ((ulong)at << TFormat.GranuleLog2), (ulong)pages << TFormat.GranuleLog2);

    /// <inheritdoc/>
    public override void Dispose() => _machine.Dispose();
}
