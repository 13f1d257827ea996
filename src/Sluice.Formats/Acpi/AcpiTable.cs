using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Text;

namespace Sluice.Formats.Acpi;

/// <summary>
/// One firmware table as it was in memory.
/// <code>
///  0 signature[4]   4 length u32    8 revision u8   9 checksum u8   10 OEM id[6]
/// 16 OEM table id[8]  24 OEM revision u32   28 creator id[4]   32 creator revision u32   36 body
/// </code>
/// </summary>
/// <remarks>ACPI specification 5.2.6. Multi-byte fields are little-endian and may be unaligned.</remarks>
/// <param name="Address">Where it lies.</param>
/// <param name="Bytes">
/// Its bytes from the header on, at least <see cref="HeaderLength"/>; what lies behind its own length is cut off.
/// </param>
/// <exception cref="ArgumentException">Fewer bytes than a header.</exception>
public sealed record AcpiTable(PhysicalAddress Address, ReadOnlyMemory<byte> Bytes)
{
    /// <summary>Bytes of the header that every table has.</summary>
    public const int HeaderLength = 36;

    /// <summary>Bytes of the longest table that is read.</summary>
    public const int MaximumLength = 1 << 20;

    /// <summary>
    /// All of it, the header included: as many bytes as its header says, if there are as many and no more than <see
    /// cref="MaximumLength"/>; never less than a header.
    /// </summary>
    public ReadOnlyMemory<byte> Bytes { get; } = Own(Bytes);

    /// <summary>The length that its header says, in bytes, whatever there is.</summary>
    public uint DeclaredLength => BinaryPrimitives.ReadUInt32LittleEndian(Bytes.Span[4..]);

    /// <summary>Four letters, as <c>DMAR</c>; bytes that are not letters or digits print as <c>?</c>.</summary>
    public string Signature => Text(Bytes.Span[..4]);

    /// <summary>The revision of the table's layout.</summary>
    public byte Revision => Bytes.Span[8];

    /// <summary>Who made it.</summary>
    public string OemId => Text(Bytes.Span.Slice(10, 6));

    /// <summary>What they call it.</summary>
    public string OemTableId => Text(Bytes.Span.Slice(16, 8));

    /// <summary>Whether all bytes sum to 0.</summary>
    public bool IsChecksumValid => IsSumZero(Bytes.Span);

    /// <summary>What follows the header.</summary>
    public ReadOnlyMemory<byte> Body => Bytes[HeaderLength..];

    /// <summary>Whether the bytes sum to 0 modulo 256.</summary>
    public static bool IsSumZero(ReadOnlySpan<byte> bytes)
    {
        byte sum = 0;
        foreach (byte b in bytes) { sum += b; }
        return sum == 0;
    }

    /// <summary>
    /// Takes a table that is not in memory, from a file say; false when the bytes are fewer than a header. Those behind
    /// the table's own length are not part of it.
    /// </summary>
    public static bool TryTake(ReadOnlyMemory<byte> bytes, [NotNullWhen(true)] out AcpiTable? table)
    {
        table = bytes.Length < HeaderLength ? null : new(PhysicalAddress.Zero, bytes);
        return table is not null;
    }

    /// <summary>Reads the table at an address; what is wrong is told to <paramref name="diagnostics"/>.</summary>
    /// <returns>Null when there is nothing to read: no memory, or a length that no table has.</returns>
    internal static AcpiTable? Read<TMemory>(TMemory memory, PhysicalAddress address, List<AcpiDiagnostic> diagnostics)
        where TMemory : struct, IPhysicalMemory
    {
        Span<byte> header = stackalloc byte[HeaderLength];
        if (!memory.TryRead(address, header))
        {
            diagnostics.Add(new(AcpiProblem.Unreachable, "????", 0, $"a table at {address}, where there is no memory"));
            return null;
        }
        string signature = Text(header[..4]);
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(header[4..]);
        if (length is < HeaderLength or > MaximumLength)
        {
            AcpiProblem problem = length < HeaderLength ? AcpiProblem.TableTooShort : AcpiProblem.TableTooLong;
            diagnostics.Add(new(problem, signature, 4, $"a table of {length} bytes at {address}"));
            return null;
        }
        byte[] bytes = new byte[length];
        if (!memory.TryRead(address, bytes))
        {
            diagnostics.Add(new(AcpiProblem.Unreachable, signature, 4,
                $"{length} bytes at {address} pass the end of memory"));
            return null;
        }
        AcpiTable table = new(address, bytes);
        if (!table.IsChecksumValid)
        {
            diagnostics.Add(new(AcpiProblem.BadChecksum, signature, 9, "the bytes do not sum to 0"));
        }
        return table;
    }

    /// <summary>What is wrong with the table as a whole; the first only, because the others follow from it.</summary>
    /// <param name="signature">What it should be called.</param>
    /// <param name="needed">Bytes of the fixed part of its kind.</param>
    internal AcpiDiagnostic? Check(string signature, int needed)
    {
        if (Signature != signature)
        {
            return new(AcpiProblem.UnexpectedSignature, signature, 0, $"a table called {Signature}");
        }
        if (DeclaredLength > MaximumLength)
        {
            return new(AcpiProblem.TableTooLong, signature, 4, $"a table of {DeclaredLength} bytes");
        }
        if (DeclaredLength < needed)
        {
            return new(AcpiProblem.TableTooShort, signature, 4, $"{DeclaredLength} bytes, {needed} needed");
        }
        return DeclaredLength == Bytes.Length ? null : new(AcpiProblem.CutShort, signature, 4,
            $"a table of {DeclaredLength} bytes, of which {Bytes.Length} are there");
    }

    /// <summary>Whether nothing but zeros is left: what firmware pads with.</summary>
    internal static bool IsPadding(ReadOnlySpan<byte> rest) => !rest.ContainsAnyExcept((byte)0);

    private static ReadOnlyMemory<byte> Own(ReadOnlyMemory<byte> bytes)
    {
        if (bytes.Length < HeaderLength)
        {
            throw new ArgumentException($"a table has at least {HeaderLength} bytes, not {bytes.Length}");
        }
        uint own = BinaryPrimitives.ReadUInt32LittleEndian(bytes.Span[4..]);
        return bytes[..(int)Math.Clamp(own, HeaderLength, (uint)Math.Min(bytes.Length, MaximumLength))];
    }

    internal static string Text(ReadOnlySpan<byte> bytes)
    {
        char[] text = new char[bytes.Length];
        for (int i = 0; i < bytes.Length; i++)
        {
            text[i] = Ascii.IsValid(bytes[i]) && bytes[i] >= 0x20 ? (char)bytes[i] : '?';
        }
        return new string(text).TrimEnd(' ', '?');
    }
}
