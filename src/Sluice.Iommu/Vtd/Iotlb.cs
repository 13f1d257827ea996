using Sluice.Formats.Vtd;

namespace Sluice.Iommu;

/// <summary>
/// Everything the unit keeps between translations: the context cache, and one IOTLB per page size. Lookups take no
/// lock.
/// <code>
/// key    63 one │ 62:47 domain │ 46 refused │ 45 passes untranslated │ 44:0 logical page, in units of the page size
/// value  63:12 physical page │ 11:4 reason, for what caching mode keeps of failed walks │ 1 write │ 0 read
/// </code>
/// </summary>
/// <remarks>
/// A walk may be overtaken by an invalidation, and must not put back what was just dropped: a fill names the epoch that
/// it read before its walk began, which is before the root table's address, and every invalidation starts a new epoch
/// under the lock that fills take.
/// </remarks>
internal sealed class Iotlb
{
    internal const int DomainShift = 47;
    internal const int PageBits = 45;
    private const ulong KeyBit = 1UL << 63;
    private const ulong DomainMask = 0xFFFFUL << DomainShift;

    private readonly SharedWord _epoch = new();
    private readonly SharedWord _gate = new();
    private readonly SharedWord _fillsDropped = new();

    internal Iotlb(VtdOptions options)
    {
        int large = Math.Max(0, options.IotlbSetsLog2 - 2);
        Contexts = new(options.ContextSetsLog2, options.ContextWays);
        Pages4K = new(options.IotlbSetsLog2, options.IotlbWays);
        Pages2M = new(large, options.IotlbWays);
        Pages1G = new(large, options.IotlbWays);
    }

    internal SetAssociativeCache Contexts { get; }

    internal SetAssociativeCache Pages4K { get; }

    internal SetAssociativeCache Pages2M { get; }

    internal SetAssociativeCache Pages1G { get; }

    /// <summary>Read it before a walk begins: before the root table's address too.</summary>
    internal long Epoch => Volatile.Read(ref _epoch.Value);

    internal long FillsDropped => Volatile.Read(ref _fillsDropped.Value);

    /// <summary>
    /// The key of the page of size 2^(12 + 9·level) that holds an address below 2^57. Bits 46 and 45 are zero in every
    /// key that is kept; a context that does not translate sets one of them and finds nothing.
    /// </summary>
    internal static ulong KeyOf(in CachedContext context, LogicalAddress address, int level) =>
        KeyBit | context.Tag | (address.Value >> (12 + 9 * level));

    /// <summary>The cache of one leaf level: 0, 1 or 2.</summary>
    internal SetAssociativeCache Pages(int level) => level switch { 0 => Pages4K, 1 => Pages2M, _ => Pages1G };

    /// <summary>
    /// Keeps what a walk found, unless an invalidation began since <paramref name="epoch"/>. Never waits: when another
    /// fill or an invalidation is under way the result is simply not kept.
    /// </summary>
    internal void Fill(SetAssociativeCache cache, ulong key, ulong value, long epoch)
    {
        if (Interlocked.CompareExchange(ref _gate.Value, 1, 0) == 0)
        {
            bool current = epoch == _epoch.Value;
            if (current) { cache.Insert(key, value); }
            Volatile.Write(ref _gate.Value, 0);
            if (current) { return; }
        }
        Interlocked.Increment(ref _fillsDropped.Value);
    }

    /// <summary>Drops context entries: all, of one domain, or of one function and those its mask hides.</summary>
    internal void InvalidateContexts(
        InvalidationGranularity granularity, ushort domainId, RequesterId source, int functionMask)
    {
        Begin();
        switch (granularity)
        {
            case InvalidationGranularity.Global:
                Contexts.Remove(0, 0);
                break;
            case InvalidationGranularity.Domain:
                Contexts.Remove(0, 0, CachedContext.DomainMask, (ulong)domainId << 8);
                break;
            case InvalidationGranularity.Selective:
                // The mask hides function bits from the top: 1 hides bit 2, 2 hides 2:1, 3 hides all three.
                // The domain id is not compared: dropping an entry too many is always allowed, one too few never.
                ulong hidden = (0b111UL << (3 - functionMask)) & 0b111;
                Contexts.Remove(~hidden, CachedContext.KeyOf(source) & ~hidden);
                break;
        }
        End();
    }

    /// <summary>
    /// Drops translations. The address and mask count only for page-selective requests, and must be in range.
    /// </summary>
    internal void InvalidatePages(
        InvalidationGranularity granularity, ushort domainId, LogicalAddress address, int addressMask)
    {
        ulong domain = KeyBit | ((ulong)domainId << DomainShift);
        Begin();
        for (int level = 0; level <= 2; level++)
        {
            SetAssociativeCache pages = Pages(level);
            switch (granularity)
            {
                case InvalidationGranularity.Global:
                    pages.Remove(0, 0);
                    break;
                case InvalidationGranularity.Domain:
                    pages.Remove(KeyBit | DomainMask, domain);
                    break;
                case InvalidationGranularity.Selective:
                    // Address bits above what any table translates are dropped, as the bus drops them: the run still
                    // covers a superset of what was named.
                    ulong page = (address.Value >> 12 & ((1UL << PageBits) - 1)) >> (9 * level);
                    pages.RemoveRun(domain | page, Math.Max(0, addressMask - 9 * level));
                    break;
            }
        }
        End();
    }

    /// <summary>Drops everything.</summary>
    internal void Clear()
    {
        InvalidateContexts(InvalidationGranularity.Global, 0, default, 0);
        InvalidatePages(InvalidationGranularity.Global, 0, default, 0);
    }

    private void Begin()
    {
        SpinWait spin = default;
        while (Interlocked.CompareExchange(ref _gate.Value, 1, 0) != 0) { spin.SpinOnce(sleep1Threshold: -1); }
        Volatile.Write(ref _epoch.Value, _epoch.Value + 1);
    }

    private void End() => Volatile.Write(ref _gate.Value, 0);
}
