namespace Sluice.Iommu;

/// <summary>Where a translated address lies, and how far the same translation reaches.</summary>
/// <param name="First">The physical byte.</param>
/// <param name="Length">
/// Bytes from there to the end of the page, at least 1. Pages above 2 MiB are handed out in pieces of 2 MiB, so that no
/// run reaches across the interrupt window.
/// </param>
public readonly record struct PhysicalRun(PhysicalAddress First, ulong Length);
