namespace Sluice.Formats.Tests.PageTables;

/// <summary>What tables should say, page by page: a dictionary.</summary>
public sealed class FlatModel(int granuleLog2)
{
    private readonly SortedDictionary<ulong, (ulong Physical, DmaAccess Access)> _pages = [];

    public int Count => _pages.Count;

    public IReadOnlyDictionary<ulong, (ulong Physical, DmaAccess Access)> Pages => _pages;

    public bool IsMapped(ulong logical) => _pages.ContainsKey(logical >> granuleLog2);

    public (ulong Physical, DmaAccess Access)? Find(ulong logical)
    {
        if (!_pages.TryGetValue(logical >> granuleLog2, out (ulong Physical, DmaAccess Access) page)) { return null; }
        return (page.Physical + (logical & ((1UL << granuleLog2) - 1)), page.Access);
    }

    public void Map(ulong logical, ulong physical, DmaAccess access) =>
        _pages.Add(logical >> granuleLog2, (physical, access));

    public bool Unmap(ulong logical) => _pages.Remove(logical >> granuleLog2);

    public void Change(ulong logical, DmaAccess access)
    {
        if (_pages.TryGetValue(logical >> granuleLog2, out (ulong Physical, DmaAccess Access) page))
        {
            _pages[logical >> granuleLog2] = (page.Physical, access);
        }
    }
}
