using static System.Buffers.Binary.BinaryPrimitives;

namespace Sluice.Formats.Acpi;

/// <summary>
/// The PCI Express configuration table (MCFG): where each segment's configuration space lies in memory (ECAM).
/// <code>
/// 36 reserved[8]   44 windows of 16 bytes: base u64, segment u16, first bus u8, last bus u8, reserved u32
/// </code>
/// </summary>
/// <remarks>PCI firmware specification 4.1.2. <see cref="Parse"/> never throws.</remarks>
/// <param name="Windows">In table order.</param>
/// <param name="Diagnostics">What was wrong; empty for a sound table.</param>
public sealed record McfgTable(IReadOnlyList<EcamWindow> Windows, IReadOnlyList<AcpiDiagnostic> Diagnostics)
{
    private const int FirstWindow = 44;
    private const int WindowLength = 16;
    private const int MostWindows = 4096;

    /// <summary>Reads a table. A damaged one gives what could be read, and diagnostics.</summary>
    public static McfgTable Parse(AcpiTable table)
    {
        ArgumentNullException.ThrowIfNull(table);
        List<EcamWindow> windows = [];
        List<AcpiDiagnostic> diagnostics = [];
        void Report(AcpiProblem problem, int offset, string detail) =>
            diagnostics.Add(new(problem, "MCFG", offset, detail));

        ReadOnlySpan<byte> bytes = table.Bytes.Span;
        if (table.Check("MCFG", FirstWindow) is { } problem) { diagnostics.Add(problem); }
        int offset = FirstWindow;
        for (; bytes.Length - offset >= WindowLength; offset += WindowLength)
        {
            ReadOnlySpan<byte> w = bytes[offset..];
            if (AcpiTable.IsPadding(w)) { break; }
            if (windows.Count + diagnostics.Count >= MostWindows)
            {
                Report(AcpiProblem.TooMany, offset, $"more than {MostWindows} windows");
                break;
            }
            EcamWindow window = new(new(ReadUInt64LittleEndian(w)), ReadUInt16LittleEndian(w[8..]), w[10], w[11]);
            if (window.LastBus < window.FirstBus)
            {
                Report(AcpiProblem.ReversedRange, offset + 10,
                    $"buses {window.FirstBus} to {window.LastBus}, left out");
                continue;
            }
            if (!window.Base.IsAligned(20))
            {
                Report(AcpiProblem.NotOnPage, offset, $"configuration space at {window.Base}");
            }
            windows.Add(window);
        }
        ReadOnlySpan<byte> rest = bytes[Math.Min(offset, bytes.Length)..];
        if (rest.Length < WindowLength && !AcpiTable.IsPadding(rest))
        {
            Report(AcpiProblem.TrailingBytes, offset, $"{rest.Length} bytes");
        }
        return new(windows, diagnostics);
    }
}
