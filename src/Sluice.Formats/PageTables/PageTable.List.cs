namespace Sluice.Formats.PageTables;

public static partial class PageTable<TFormat>
{
    /// <summary>
    /// Lists everything that tables map, of whatever origin: damaged entries are reported and passed over, the work is
    /// bounded, nothing throws. A table that two entries share is listed at both places; one that leads back to a table
    /// above it is a loop.
    /// </summary>
    public static PageTableListing List<TMemory>(TMemory memory, in PageTableRoot root, ListingLimits limits)
        where TMemory : struct, IPhysicalMemory
    {
        Lister<TMemory> lister = new(memory, root, limits);
        if (root.TopLevel >= 0 && root.TopLevel <= TFormat.MaximumTopLevel)
        {
            lister.Table(root.Table, root.TopLevel, 0, DmaAccess.ReadWrite);
        }
        return lister.Listing;
    }

    private sealed class Lister<TMemory>(TMemory memory, PageTableRoot root, ListingLimits limits)
        where TMemory : struct, IPhysicalMemory
    {
        private readonly List<MappedRange> _ranges = [];
        private readonly List<TableDamage> _damage = [];
        private readonly PhysicalAddress[] _path = new PhysicalAddress[TFormat.MaximumTopLevel + 1];
        private readonly PageTableRoot _root = root;
        private long _entriesLeft = limits.Entries;
        private int _depth;
        private bool _stopped;

        public PageTableListing Listing => new(_ranges, _damage);

        public void Table(PhysicalAddress table, int level, ulong start, DmaAccess above)
        {
            _path[_depth++] = table;
            int shift = Shift(level);
            ulong end = SpanLast(in _root, _depth == 1 ? _root.TopLevel : level) >> shift;
            for (ulong index = 0; index <= end && !_stopped; index++)
            {
                if (--_entriesLeft < 0)
                {
                    Stop(table, index, level);
                    break;
                }
                if (!TryLoad(memory, table, index, out ulong entry))
                {
                    Report(table, index, level, TableProblem.BadPointer);
                    break;
                }
                if (TFormat.IsPresent(entry)) { Entry(table, index, level, entry, start + (index << shift), above); }
            }
            _depth--;
        }

        private void Entry(PhysicalAddress table, ulong index, int level, ulong entry, ulong offset, DmaAccess above)
        {
            if (TFormat.HasReservedBits(entry, level, in _root))
            {
                Report(table, index, level, TableProblem.ReservedBits);
                return;
            }
            DmaAccess access = above & TFormat.Access(entry, level, in _root);
            if (access == DmaAccess.None) { return; }
            PhysicalAddress target = TFormat.Address(entry, level);
            if (TFormat.IsLeaf(entry, level))
            {
                int size = TFormat.LeafSizeLog2(entry, level), shift = Shift(level);
                ulong inPage = TFormat.ItemsHoldOwnAddress ? 0 : offset & ((1UL << size) - 1);
                if (!Add(offset, (1UL << shift) - 1, target + inPage, access)) { Stop(table, index, level); }
                return;
            }
            if (IsAbove(target)) { Report(table, index, level, TableProblem.Loop); }
            else if (!TryLoad(memory, target, 0, out _)) { Report(table, index, level, TableProblem.BadPointer); }
            else { Table(target, TFormat.NextLevel(entry, level), offset, access); }
        }

        private bool IsAbove(PhysicalAddress table)
        {
            foreach (PhysicalAddress above in _path.AsSpan(0, _depth))
            {
                if (above == table) { return true; }
            }
            return table - _root.Table < 1UL << RootSizeLog2(in _root);
        }

        private bool Add(ulong offset, ulong lengthMinusOne, PhysicalAddress physical, DmaAccess access)
        {
            LogicalAddress first = Extend(in _root, offset);
            LogicalRange range = new(first, first + lengthMinusOne);
            if (_ranges.Count > 0)
            {
                MappedRange before = _ranges[^1];
                ulong length = before.Logical.Length;
                if (before.Access == access && before.Logical.First + length == first
                    && before.Physical + length == physical)
                {
                    _ranges[^1] = before with { Logical = new(before.Logical.First, range.Last) };
                    return true;
                }
            }
            if (_ranges.Count >= limits.Items) { return false; }
            _ranges.Add(new(range, physical, access));
            return true;
        }

        private void Report(PhysicalAddress table, ulong index, int level, TableProblem problem)
        {
            if (_damage.Count < limits.Items) { _damage.Add(new(table, index, level, problem)); }
            else { Stop(table, index, level); }
        }

        private void Stop(PhysicalAddress table, ulong index, int level)
        {
            if (!_stopped) { _damage.Add(new(table, index, level, TableProblem.Truncated)); }
            _stopped = true;
        }
    }
}
