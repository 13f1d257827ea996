namespace Sluice.Dma;

/// <summary>A mapping near a blocked DMA, and how far away.</summary>
/// <param name="Mapping">The mapping.</param>
/// <param name="Distance">Bytes from the blocked address up to the mapping's first byte, or from the mapping's end up
/// to the address: 0 when they touch.</param>
/// <param name="Above">Whether the mapping lies above the address.</param>
public readonly record struct NearMapping(MappingRecord Mapping, ulong Distance, bool Above);

/// <summary>What lies in memory at an address that a device put on the bus as if it were logical.</summary>
/// <param name="Frame">What the page is used for.</param>
/// <param name="Name">The machine's name for it, or null.</param>
/// <param name="Mapping">The live mapping whose buffer lies there, or null.</param>
/// <param name="Offset">The first byte of that buffer in the page.</param>
public readonly record struct PhysicalFinding(FrameKind Frame, string? Name, MappingRecord? Mapping, ulong Offset);

/// <summary>A function that may have sent a DMA, because it carries the requester id.</summary>
/// <param name="Device">The function.</param>
/// <param name="Driver">Its driver.</param>
public readonly record struct RequesterSharer(PciAddress Device, string Driver);

/// <summary>
/// One blocked DMA, joined to what the drivers mapped: what it was, whose mapping it touched, and what probably went
/// wrong.
/// </summary>
/// <remarks>
/// States what the records prove and no more: a likely cause is given only where the evidence leaves one. Units that
/// record only the page (VT-d) make every byte statement one about the page.
/// </remarks>
public sealed partial record DmaReport
{
    /// <summary>What it turned out to be.</summary>
    public required DmaReportKind Kind { get; init; }

    /// <summary>The refused DMA.</summary>
    public required DmaFault Fault { get; init; }

    /// <summary>
    /// The driver of the device, or the last it had; null when it never had one, or when functions of several carry the
    /// requester id.
    /// </summary>
    public string? Driver { get; init; }

    /// <summary>The bridge that replaces the requester ids of what is behind it; null when the id is one
    /// function's.</summary>
    public PciAddress? Bridge { get; init; }

    /// <summary>With <see cref="Bridge"/>: every function with a driver that may have sent it.</summary>
    public IReadOnlyList<RequesterSharer> SharedBy { get; init; } = [];

    /// <summary>The mapping it is about, or null.</summary>
    public MappingRecord? Mapping { get; init; }

    /// <summary>
    /// A mapping that lies at the address now and was made after <see cref="Mapping"/> ended, or, of another device,
    /// after the earliest moment at which the DMA can have happened. Where it would have allowed the access it was made
    /// after the DMA was refused. Null for none.
    /// </summary>
    public MappingRecord? LaterMapping { get; init; }

    /// <summary>
    /// Nanoseconds from the mapping's end to the reading of the fault record, or a little more
    /// (<see cref="MappingRecord.UnmappedExactly"/>): no less than to the DMA itself, which no unit tells the time of.
    /// Null while it is live or ending, and where it ended only after the record was read.
    /// </summary>
    public long? GoneForNanoseconds { get; init; }

    /// <summary>
    /// The byte of <see cref="Mapping"/> at the blocked address, or the first one in the blocked page; null where the
    /// buffer is not one run, or the address is outside.
    /// </summary>
    public ulong? Offset { get; init; }

    /// <summary>
    /// The nearest live mapping of the device other than <see cref="Mapping"/>, within 1 MiB, or null.
    /// </summary>
    public NearMapping? Nearest { get; init; }

    /// <summary>
    /// What lies at the address when it is read as a physical one; only for
    /// <see cref="DmaReportKind.PhysicalAddress"/>.
    /// </summary>
    public PhysicalFinding? Physical { get; init; }

    /// <summary>The name of the reserved window, or null.</summary>
    public string? Window { get; init; }

    /// <summary>
    /// What probably went wrong, or null when the evidence leaves more than one answer. Where two are possible and one
    /// is much more likely, it names both, in that order.
    /// </summary>
    public string? LikelyCause { get; init; }
}
