namespace Sluice.Formats.Vtd;

/// <summary>The capability register (CAP).</summary>
/// <remarks>VT-d specification 11.4.2; Linux iommu.h and OpenVMM agree, QEMU for the fields it has.</remarks>
/// <param name="Word">The register.</param>
public readonly record struct VtdCapability(ulong Word)
{
    /// <summary>Domain ids are 4 + 2·ND bits wide; this is how many there are, 16 to 65,536.</summary>
    public int Domains => 1 << Math.Min(16, 4 + 2 * (int)Word.Field(0, 3));

    /// <summary>Software must flush the write buffer before the unit sees its tables (RWBF).</summary>
    public bool NeedsWriteBufferFlush => Word.Bit(4);

    /// <summary>The unit may cache entries that are not present, and domain id 0 is reserved (CM).</summary>
    public bool CachingMode => Word.Bit(7);

    /// <summary>
    /// Supported address widths: bit 1 = 39 bits and 3 levels, bit 2 = 48 and 4, bit 3 = 57 and 5 (SAGAW).
    /// </summary>
    public int AddressWidths => (int)Word.Field(8, 5);

    /// <summary>
    /// Whether tables with <paramref name="topLevel"/> (leaves are level 0: 2, 3 or 4) are supported.
    /// </summary>
    public bool SupportsTopLevel(int topLevel) =>
        topLevel is >= 2 and <= 4 && ((AddressWidths >> (topLevel - 1)) & 1) != 0;

    /// <summary>The widest logical address in bits (MGAW + 1).</summary>
    public int MaximumAddressBits => (int)Word.Field(16, 6) + 1;

    /// <summary>Zero-length reads are answered for write-only pages (ZLR).</summary>
    public bool ZeroLengthReads => Word.Bit(22);

    /// <summary>Where the fault recording registers start, in bytes (FRO × 16).</summary>
    public uint FaultRecordOffset => (uint)Word.Field(24, 10) * 16;

    /// <summary>Second-stage leaves of 2 MiB.</summary>
    public bool Leaves2M => Word.Bit(34);

    /// <summary>Second-stage leaves of 1 GiB.</summary>
    public bool Leaves1G => Word.Bit(35);

    /// <summary>Page-selective IOTLB invalidation (PSI).</summary>
    public bool PageSelective => Word.Bit(39);

    /// <summary>How many fault recording registers there are (NFR + 1).</summary>
    public int FaultRecords => (int)Word.Field(40, 8) + 1;

    /// <summary>The largest address mask of a page-selective invalidation (MAMV).</summary>
    public int MaximumAddressMask => (int)Word.Field(48, 6);

    /// <summary>Write draining (DWD).</summary>
    public bool DrainsWrites => Word.Bit(54);

    /// <summary>Read draining (DRD).</summary>
    public bool DrainsReads => Word.Bit(55);
}

/// <summary>The extended capability register (ECAP).</summary>
/// <remarks>VT-d specification 11.4.3; Linux iommu.h and OpenVMM agree, QEMU for the fields it has.</remarks>
/// <param name="Word">The register.</param>
public readonly record struct VtdExtendedCapability(ulong Word)
{
    /// <summary>Table walks see the processor's caches (C); otherwise software flushes its stores.</summary>
    public bool CoherentWalks => Word.Bit(0);

    /// <summary>Queued invalidation (QI).</summary>
    public bool QueuedInvalidation => Word.Bit(1);

    /// <summary>Device TLBs (DT).</summary>
    public bool DeviceTlb => Word.Bit(2);

    /// <summary>Interrupt remapping (IR).</summary>
    public bool InterruptRemapping => Word.Bit(3);

    /// <summary>Pass-through contexts (PT).</summary>
    public bool PassThrough => Word.Bit(6);

    /// <summary>Snoop control in leaves (SC).</summary>
    public bool SnoopControl => Word.Bit(7);

    /// <summary>Where the IVA and IOTLB registers are, in bytes (IRO × 16).</summary>
    public uint InvalidateAddressOffset => (uint)Word.Field(8, 10) * 16;
}
