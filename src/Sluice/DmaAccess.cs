namespace Sluice;

/// <summary>
/// What a device may do, or tried to do, through a logical address. Bit 0 and bit 1 as in VT-d entries.
/// </summary>
[Flags]
public enum DmaAccess : byte
{
    /// <summary>Nothing: an entry that grants nothing is absent.</summary>
    None = 0,

    /// <summary>The device reads memory.</summary>
    Read = 1,

    /// <summary>The device writes memory.</summary>
    Write = 2,

    /// <summary>Both.</summary>
    ReadWrite = Read | Write,
}

/// <summary>Which way the data of a transfer goes, as the driver says it.</summary>
public enum DmaDirection : byte
{
    /// <summary>Memory to device: the device reads.</summary>
    ToDevice = 1,

    /// <summary>Device to memory: the device writes.</summary>
    FromDevice = 2,

    /// <summary>Both ways.</summary>
    Bidirectional = 3,
}

/// <summary>From the driver's word to the device's right.</summary>
public static class DmaDirections
{
    /// <summary>The right a device needs for a transfer in this direction, and no more.</summary>
    public static DmaAccess ToAccess(this DmaDirection direction) => (DmaAccess)direction;

    /// <summary>The direction that grants exactly <paramref name="access"/>.</summary>
    public static DmaDirection ToDirection(this DmaAccess access) => (DmaDirection)access;
}
