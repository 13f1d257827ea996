using System.Globalization;

namespace Sluice.Cli;

/// <summary>
/// Sizes as people write them: <c>4096</c>, <c>0x1000</c>, <c>64M</c>, <c>64MiB</c>, <c>1G</c>. All units are powers of
/// two.
/// </summary>
internal static class ByteSize
{
    private const string Units = "KMGT";

    /// <summary>Reads a size in bytes.</summary>
    public static bool TryParse(string text, out ulong bytes)
    {
        bytes = 0;
        string digits = text.Trim();
        if (digits.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
        {
            return ulong.TryParse(digits[2..], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out bytes);
        }
        if (digits.EndsWith("iB", StringComparison.OrdinalIgnoreCase)) { digits = digits[..^2]; }
        else if (digits.EndsWith('B') || digits.EndsWith('b')) { digits = digits[..^1]; }
        int unit = digits.Length == 0 ? -1 : Units.IndexOf(char.ToUpperInvariant(digits[^1]), StringComparison.Ordinal);
        if (unit >= 0) { digits = digits[..^1]; }
        if (!ulong.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out ulong count)) { return false; }
        int shift = (unit + 1) * 10;
        if (count > ulong.MaxValue >> shift) { return false; }
        bytes = count << shift;
        return true;
    }

    /// <summary>A size for people: <c>64.0 MiB</c>.</summary>
    public static string Format(double bytes)
    {
        if (bytes < 1024) { return string.Create(CultureInfo.InvariantCulture, $"{bytes:0} bytes"); }
        int unit = -1;
        while (bytes >= 1024 && unit < Units.Length - 1)
        {
            bytes /= 1024;
            unit++;
        }
        return string.Create(CultureInfo.InvariantCulture, $"{bytes:0.0} {Units[unit]}iB");
    }
}
