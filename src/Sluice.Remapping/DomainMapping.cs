namespace Sluice.Remapping;

/// <summary>
/// A run of logical pages that <see cref="Domain.TryMap"/> handed out. Hand it back to <see cref="Domain.Unmap"/> once.
/// </summary>
/// <param name="First">The first byte, page aligned.</param>
/// <param name="Pages">Mapped pages of 4 KiB.</param>
/// <param name="SlotLog2">
/// The slot that was taken is 2^n pages; what is beyond <paramref name="Pages"/> is an unmapped guard.
/// </param>
public readonly record struct DomainMapping(LogicalAddress First, int Pages, byte SlotLog2)
{
    /// <summary>The mapped bytes. Only for a mapping that was handed out, never for <c>default</c>.</summary>
    public LogicalRange Range => LogicalRange.FromLength(First, (ulong)Pages << 12);
}
