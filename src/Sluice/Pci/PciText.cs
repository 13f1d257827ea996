using System.Globalization;

namespace Sluice;

/// <summary>
/// Configuration spaces as text that <c>lspci -F</c> reads: an independent check of every byte, and a bug report's
/// attachment.
/// </summary>
public static class PciText
{
    private const int BytesPerLine = 16;

    /// <summary>Writes each function's address and ids, then its bytes in lines of sixteen.</summary>
    /// <param name="writer">Stays the caller's.</param>
    /// <param name="functions">In the order to write them.</param>
    public static void Write(TextWriter writer, IEnumerable<PciFunction> functions)
    {
        ArgumentNullException.ThrowIfNull(writer);
        ArgumentNullException.ThrowIfNull(functions);
        foreach (PciFunction function in functions)
        {
            string ids = $"{function.VendorId:x4}:{function.DeviceId:x4} (rev {function.Revision:x2})";
            writer.Write($"{function.Address.Requester} Class {function.ClassCode >> 8:x4}: {ids}\n");
            for (int line = 0; line < function.ConfigLength; line += BytesPerLine)
            {
                writer.Write(line.ToString("x2", CultureInfo.InvariantCulture));
                writer.Write(':');
                for (int i = 0; i < BytesPerLine; i++)
                {
                    writer.Write(' ');
                    writer.Write(function.ReadConfig(line + i, 1).ToString("x2", CultureInfo.InvariantCulture));
                }
                writer.Write('\n');
            }
            writer.Write('\n');
        }
    }
}
