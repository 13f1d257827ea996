namespace Sluice;

/// <summary>
/// The 16-bit id that a PCI function puts on every transaction: bus, device, function.
/// <code>
///  15          8 7        3 2     0
/// ┌─────────────┬──────────┬───────┐
/// │     bus     │  device  │ func. │
/// └─────────────┴──────────┴───────┘
/// </code>
/// </summary>
/// <param name="Value">The id as it travels on the bus and stands in fault records.</param>
/// <remarks>PCI Express base specification, "Requester ID"; VT-d calls it source-id, AMD-Vi DeviceID.</remarks>
public readonly record struct RequesterId(ushort Value)
{
    /// <summary>An id from its parts; each part is cut to its width (8, 5 and 3 bits).</summary>
    public static RequesterId From(int bus, int device, int function) =>
        new((ushort)(((bus & 0xFF) << 8) | ((device & 0x1F) << 3) | (function & 7)));

    /// <summary>Bus number, 0 to 255.</summary>
    public byte Bus => (byte)(Value >> 8);

    /// <summary>Device number, 0 to 31.</summary>
    public byte Device => (byte)((Value >> 3) & 0x1F);

    /// <summary>Function number, 0 to 7.</summary>
    public byte Function => (byte)(Value & 7);

    /// <summary>Device and function in one byte: the index into a context table.</summary>
    public byte DeviceFunction => (byte)Value;

    /// <summary>As lspci prints it: <c>00:04.0</c>.</summary>
    public override string ToString() => $"{Bus:x2}:{Device:x2}.{Function:x}";
}
