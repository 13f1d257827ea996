namespace Sluice.Remapping;

/// <summary>
/// A run of logical pages that <see cref="Domain.TryMap"/> handed out. Hand it back to <see cref="Domain.Unmap"/> once.
/// </summary>
/// <remarks>Only a domain makes one, and nobody changes it: it is always a mapping as a whole.</remarks>
public readonly record struct DomainMapping
{
    internal DomainMapping(LogicalAddress first, int pages, byte slotLog2) =>
        (First, Pages, SlotLog2) = (first, pages, slotLog2);

    /// <summary>The first byte, page aligned.</summary>
    public LogicalAddress First { get; }

    /// <summary>Mapped pages of 4 KiB.</summary>
    public int Pages { get; }

    /// <summary>
    /// The slot that was taken is 2^n pages; what is beyond <see cref="Pages"/> is an unmapped guard.
    /// </summary>
    public byte SlotLog2 { get; }

    /// <summary>The mapped bytes. Only for a mapping that was handed out, never for <c>default</c>.</summary>
    public LogicalRange Range => LogicalRange.FromLength(First, (ulong)Pages << 12);
}
