namespace Sluice.Formats.Acpi;

/// <summary>What kind of device a scope names.</summary>
public enum DmarScopeType : byte
{
    /// <summary>One PCI function.</summary>
    Endpoint = 1,

    /// <summary>A bridge and everything below it.</summary>
    Bridge = 2,

    /// <summary>An I/O interrupt controller; the enumeration id is its APIC id.</summary>
    IoApic = 3,

    /// <summary>A timer that sends interrupt messages; the enumeration id is its number.</summary>
    Hpet = 4,

    /// <summary>A device of the ACPI namespace; the enumeration id is that of an ANDD structure.</summary>
    NamespaceDevice = 5,
}

/// <summary>One step of a path: a function on the bus reached so far.</summary>
/// <param name="Device">0 to 31.</param>
/// <param name="Function">0 to 7.</param>
public readonly record struct PciStep(byte Device, byte Function);

/// <summary>
/// A device scope: how firmware names a device.
/// <code>
/// 0 type u8   1 length u8   2 flags u8   3 reserved u8   4 enumeration id u8   5 start bus u8
/// 6 path: {device u8, function u8} …
/// </code>
/// </summary>
/// <remarks>VT-d specification 8.3.1.</remarks>
/// <param name="Type">What kind.</param>
/// <param name="Flags">Meaning depends on the structure that holds the scope.</param>
/// <param name="EnumerationId">Depends on the type.</param>
/// <param name="StartBus">The bus that the first step is on.</param>
/// <param name="Path">The steps; each but the last is a bridge.</param>
public sealed record DmarScope(DmarScopeType Type, byte Flags, byte EnumerationId, byte StartBus,
    IReadOnlyList<PciStep> Path)
{
    /// <summary>
    /// Walks the path: bus numbers behind bridges are whatever the bridges were given, so each is asked for its
    /// secondary bus (configuration byte 0x19).
    /// </summary>
    /// <param name="segment">The segment of the structure that holds the scope.</param>
    /// <param name="secondaryBusOf">
    /// The secondary bus of the bridge at an address; null when there is no bridge.
    /// </param>
    /// <param name="device">The function at the path's end.</param>
    /// <returns>
    /// False when the path is empty, names an impossible function, or a bridge on the way is not there.
    /// </returns>
    public bool TryResolve(ushort segment, Func<PciAddress, byte?> secondaryBusOf, out PciAddress device)
    {
        ArgumentNullException.ThrowIfNull(secondaryBusOf);
        device = default;
        byte bus = StartBus;
        for (int i = 0; i < Path.Count; i++)
        {
            if (Path[i].Device > 31 || Path[i].Function > 7) { return false; }
            device = new(segment, new((ushort)(bus << 8 | Path[i].Device << 3 | Path[i].Function)));
            if (i == Path.Count - 1) { return true; }
            if (secondaryBusOf(device) is not { } next) { return false; }
            bus = next;
        }
        return false;
    }
}
