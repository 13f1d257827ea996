namespace Sluice;

/// <summary>What a request asks of the remapping unit between its sender and memory.</summary>
public enum DmaRequestKind : byte
{
    /// <summary>An ordinary request: its address is logical and is translated.</summary>
    Untranslated,

    /// <summary>Its address is one that the unit gave out before (PCIe ATS): it is let through, or refused.</summary>
    Translated,

    /// <summary>Nothing is moved: the sender asks for a translation that it will keep (PCIe ATS).</summary>
    TranslationRequest,
}

/// <summary>
/// One DMA as a remapping unit sees it: who, where, what for. Of the bytes only the first is named; a transfer is split
/// where a translation ends.
/// </summary>
/// <param name="Source">The sender.</param>
/// <param name="Address">The first byte, as the device put it on the bus.</param>
/// <param name="Access">Read, write, or both for an atomic operation; not none.</param>
/// <remarks>PCI Express base specification, "Transaction layer": address type, PASID prefix.</remarks>
public readonly record struct DmaRequest(SourceId Source, LogicalAddress Address, DmaAccess Access)
{
    // The PASID, and bit 31 when there is one; execute and privileged above its 20 bits; the kind above those.
    private const uint PasidMask = (1u << Sluice.Pasid.Bits) - 1;
    private const uint HasPasidBit = 1u << 31;
    private const uint ExecuteBit = 1u << 20;
    private const uint PrivilegedBit = 1u << 21;
    private const int KindShift = 22;
    private const uint KindMask = 3u << KindShift;

    private readonly uint _more;

    /// <summary>Whether this is the plainest request: untranslated, without a PASID, unprivileged, not to execute.</summary>
    public bool IsPlain => _more == 0;

    /// <summary>Which of the sender's address spaces; null for its one and only.</summary>
    public Pasid? Pasid
    {
        get => (_more & HasPasidBit) == 0 ? null : new Pasid(_more & PasidMask);
        init => _more = (_more & ~(PasidMask | HasPasidBit)) | (value is { } pasid ? pasid.Value | HasPasidBit : 0);
    }

    /// <summary>What it asks for.</summary>
    public DmaRequestKind Kind
    {
        get => (DmaRequestKind)((_more & KindMask) >> KindShift);
        init => _more = (_more & ~KindMask) | ((uint)value << KindShift & KindMask);
    }

    /// <summary>Whether what is read is to be executed: only with a PASID.</summary>
    public bool Execute
    {
        get => (_more & ExecuteBit) != 0;
        init => _more = (_more & ~ExecuteBit) | (value ? ExecuteBit : 0);
    }

    /// <summary>Whether it is made in privileged mode: only with a PASID.</summary>
    public bool Privileged
    {
        get => (_more & PrivilegedBit) != 0;
        init => _more = (_more & ~PrivilegedBit) | (value ? PrivilegedBit : 0);
    }
}
