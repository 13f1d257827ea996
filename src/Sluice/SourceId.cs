using System.Globalization;

namespace Sluice;

/// <summary>
/// The sender of a DMA as a remapping unit sees it: a PCI function with its segment, or a stream of a device that is not
/// on PCI (a device-tree <c>iommus</c> id, a DART's stream, an SMMU's stream).
/// <code>
///  63        33 32 31           16 15            0
/// ┌────────────┬──┬───────────────┬───────────────┐
/// │     0      │ S│    segment    │   requester   │    S = 0: a PCI function
/// │     0      │ S│         stream number         │    S = 1: a stream
/// └────────────┴──┴───────────────┴───────────────┘
/// </code>
/// </summary>
/// <remarks>A value: it can be compared and is a key. <c>default</c> is PCI function 0000:00:00.0.</remarks>
public readonly record struct SourceId
{
    private const ulong StreamBit = 1UL << 32;

    private readonly ulong _word;

    private SourceId(ulong word) => _word = word;

    /// <summary>A PCI function.</summary>
    /// <param name="function">Segment, bus, device and function.</param>
    public SourceId(PciAddress function)
        : this(((ulong)function.Segment << 16) | function.Requester.Value)
    {
    }

    /// <summary>A stream of a device that is not on PCI.</summary>
    /// <param name="number">The number that the unit looks up, all 32 bits of it.</param>
    public static SourceId OfStream(uint number) => new(StreamBit | number);

    /// <summary>Whether it is a PCI function.</summary>
    public bool IsPci => (_word & StreamBit) == 0;

    /// <summary>
    /// The 16 bits that a PCI unit sees, without the segment. Of a stream the low 16 bits of its number.
    /// </summary>
    public RequesterId Requester => new((ushort)_word);

    /// <summary>The PCI function; null for a stream.</summary>
    public PciAddress? Pci => IsPci ? new PciAddress((ushort)(_word >> 16), Requester) : null;

    /// <summary>The stream number; null for a PCI function.</summary>
    public uint? Stream => IsPci ? null : (uint)_word;

    /// <summary>
    /// The number that a unit of this source's kind indexes its tables with: segment and requester id, or the stream.
    /// </summary>
    public uint Number => (uint)_word;

    /// <summary>All of it in one word, with the bits of the diagram: a key that tells any two sources apart.</summary>
    public ulong Word => _word;

    /// <summary>A PCI function is a source.</summary>
    /// <param name="function">Segment, bus, device and function.</param>
    public static implicit operator SourceId(PciAddress function) => new(function);

    /// <summary>As lspci -D prints a function, or <c>stream 7</c>.</summary>
    public override string ToString() =>
        Pci is { } function ? function.ToString() : string.Create(CultureInfo.InvariantCulture, $"stream {Number}");
}
