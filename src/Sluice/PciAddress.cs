using System.Diagnostics.CodeAnalysis;
using System.Globalization;

namespace Sluice;

/// <summary>A PCI function in a machine with several segments: <c>0000:00:04.0</c>.</summary>
/// <param name="Segment">The PCI segment group, 0 on most machines.</param>
/// <param name="Requester">Bus, device and function inside the segment.</param>
public readonly record struct PciAddress(ushort Segment, RequesterId Requester)
{
    /// <summary>A function of segment 0.</summary>
    public static PciAddress From(int bus, int device, int function) => new(0, RequesterId.From(bus, device, function));

    /// <summary>Reads <c>ssss:bb:dd.f</c> or <c>bb:dd.f</c>, all hexadecimal, as lspci prints it.</summary>
    public static bool TryParse([NotNullWhen(true)] string? text, out PciAddress address)
    {
        address = default;
        string[] parts = (text ?? "").Split(':');
        if (parts.Length is not (2 or 3)) { return false; }
        string[] slot = parts[^1].Split('.');
        int segment = 0;
        if (slot.Length != 2
            || (parts.Length == 3 && !TryHex(parts[0], 0xFFFF, out segment))
            || !TryHex(parts[^2], 0xFF, out int bus)
            || !TryHex(slot[0], 0x1F, out int device)
            || !TryHex(slot[1], 7, out int function))
        {
            return false;
        }
        address = new((ushort)segment, RequesterId.From(bus, device, function));
        return true;
    }

    private static bool TryHex(string text, int max, out int value) =>
        int.TryParse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value)
            && value >= 0 && value <= max;

    /// <summary>As lspci -D prints it: <c>0000:00:04.0</c>.</summary>
    public override string ToString() => $"{Segment:x4}:{Requester}";
}
