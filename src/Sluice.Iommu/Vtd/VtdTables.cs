using Sluice.Formats.PageTables;

namespace Sluice.Iommu.Vtd;

/// <summary>
/// What a translation reads from memory when the caches do not know it: the one place of the unit that depends on the
/// kind of memory, and not on the road of a hit.
/// </summary>
internal abstract class VtdTables
{
    /// <summary>The tables of a unit, read as fast as the kind of memory allows.</summary>
    internal static VtdTables In(IPhysicalMemory memory, VtdOptions options) => memory is PhysicalMemory native
        ? new Tables<PhysicalMemory>(native, options)
        : new Tables<AnyMemory>(new(memory), options);

    /// <summary>Reads and checks the context entry of one requester.</summary>
    internal abstract CachedContext ReadContext(RootPointer root, RequesterId requester);

    /// <summary>Walks the second-stage tables of a context that translates.</summary>
    internal abstract Translation Walk(in CachedContext context, LogicalAddress address);

    private sealed class Tables<TMemory>(TMemory memory, VtdOptions options) : VtdTables
        where TMemory : struct, IPhysicalMemory
    {
        private readonly ContextReader<TMemory> _contexts = new(options, memory);
        private readonly int _hostAddressBits = options.HostAddressBits;
        private readonly uint _leafLevels = options.LeafLevels;

        internal override CachedContext ReadContext(RootPointer root, RequesterId requester) =>
            _contexts.Read(root, requester);

        internal override Translation Walk(in CachedContext context, LogicalAddress address)
        {
            PageTableRoot tables = new(context.Table, context.TopLevel, _hostAddressBits, _leafLevels)
            {
                SnoopControl = false,
            };
            return PageTable<VtdSecondStage>.Walk(memory, in tables, address);
        }
    }
}
