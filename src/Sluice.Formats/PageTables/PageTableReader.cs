namespace Sluice.Formats.PageTables;

/// <summary>The reader over a format.</summary>
internal sealed class PageTableReader<TFormat>(string name, PageTableRoot root) : IPageTableReader
    where TFormat : struct, IPageTableFormat<TFormat>
{
    public string Format => name;

    public PageTableRoot Root => root;

    public Translation Translate<TMemory>(TMemory memory, LogicalAddress address)
        where TMemory : struct, IPhysicalMemory
    {
        int table = TFormat.IndexBits + TFormat.EntrySizeLog2;
        return PageTable<TFormat>.Walk(new AcyclicMemory<TMemory>(memory, root.Table,
            PageTable<TFormat>.RootSizeLog2(root), table), root, address);
    }

    public PageTableListing List<TMemory>(TMemory memory, ListingLimits limits)
        where TMemory : struct, IPhysicalMemory => PageTable<TFormat>.List(memory, root, limits);
}
