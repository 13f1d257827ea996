namespace Sluice.Remapping;

/// <summary>
/// A rented piece of a <see cref="ShadowPool"/>: mapped already, and mapped still after it is returned.
/// </summary>
public readonly struct ShadowSlot
{
    internal ShadowSlot(ShadowBuffer buffer, int pages) => (Buffer, PageCount) = (buffer, pages);

    internal ShadowBuffer Buffer { get; }

    /// <summary>Pages asked for; the slot may have more, which nobody uses.</summary>
    public int PageCount { get; }

    /// <summary>The first logical byte, page aligned. The page after the slot is not mapped.</summary>
    public LogicalAddress First => Buffer.Mapping.First;

    /// <summary>All logical addresses that it keeps from others, with the closed pages behind it.</summary>
    public LogicalRange Taken => LogicalRange.FromLength(First, 1UL << Buffer.Mapping.SlotLog2 << 12);

    /// <summary>The pages behind it, in order and scattered. They hold what the last renter left there.</summary>
    public ReadOnlySpan<PhysicalAddress> Pages => Buffer.Pages.AsSpan(0, PageCount);
}

/// <summary>A mapped slot of a pool.</summary>
internal sealed class ShadowBuffer(DomainMapping mapping, PhysicalAddress[] pages, DmaAccess access, int log2)
{
    public DomainMapping Mapping { get; } = mapping;

    public PhysicalAddress[] Pages { get; } = pages;

    public DmaAccess Access { get; } = access;

    public int Log2 { get; } = log2;

    public bool IsRented { get; set; }

    /// <summary>Rented by a transfer that leaked.</summary>
    public bool IsLost { get; set; }
}
