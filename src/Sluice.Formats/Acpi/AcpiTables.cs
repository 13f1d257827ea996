using System.Buffers.Binary;

namespace Sluice.Formats.Acpi;

/// <summary>
/// The firmware's tables as found in memory, the way an operating system finds them: root pointer → XSDT or RSDT →
/// tables.
/// <code>
/// RSDP   0 "RSD PTR "   8 checksum u8 (bytes 0–19)   9 OEM id[6]   15 revision u8   16 RSDT u32
///       20 length u32   24 XSDT u64   32 checksum u8 (all)   — from revision 2
/// </code>
/// </summary>
/// <remarks>
/// ACPI specification 5.2.5, 5.2.7, 5.2.8. Damage is reported and what can be read is given; nothing throws.
/// </remarks>
/// <param name="RootPointer">Where the RSDP lies; null when there is none.</param>
/// <param name="All">
/// The tables that the root table lists and that could be read, in its order; those with bad checksums too.
/// </param>
/// <param name="Diagnostics">What was wrong.</param>
public sealed record AcpiTables(
    PhysicalAddress? RootPointer, IReadOnlyList<AcpiTable> All, IReadOnlyList<AcpiDiagnostic> Diagnostics)
{
    private const ulong SearchStep = 16;
    private const ulong RootPointerWord = 0x2052_5450_2044_5352; // "RSD PTR "
    private const int MaximumTables = 1024;
    private const int MaximumBytes = 64 << 20;

    // Where a PC's firmware keeps the segment of its extended BIOS data area, and where such an area can be.
    private static readonly PhysicalAddress s_dataAreaSegment = new(0x40E);
    private static readonly PhysicalRange s_dataAreas = new(new(0x500), new(0x9_FFFF));
    private static readonly PhysicalRange s_firmwareArea = new(new(0xE_0000), new(0xF_FFFF));

    /// <summary>The first table with this signature; null when there is none.</summary>
    public AcpiTable? Find(string signature) => All.FirstOrDefault(table => table.Signature == signature);

    /// <summary>Finds the root pointer, and reads what it leads to.</summary>
    /// <param name="memory">The machine's.</param>
    /// <param name="rootPointer">
    /// Where the root pointer lies, when the host knows it: nothing is searched then. Null: the first KiB of the
    /// extended BIOS data area is searched, and then 0xE0000 to 0xFFFFF.
    /// </param>
    public static AcpiTables Find<TMemory>(TMemory memory, PhysicalAddress? rootPointer = null)
        where TMemory : struct, IPhysicalMemory
    {
        if (rootPointer is { } given)
        {
            return IsRootPointer(memory, given) ? ReadFrom(memory, given) : None($"no root pointer at {given}");
        }
        PhysicalAddress? damaged = null;
        PhysicalAddress? found = DataArea(memory) is { } area ? Search(memory, area, ref damaged) : null;
        if ((found ?? Search(memory, s_firmwareArea, ref damaged)) is { } at) { return ReadFrom(memory, at); }
        AcpiTables none = None("no root pointer in the extended BIOS data area or between 0xE0000 and 0xFFFFF");
        return damaged is not { } decoy ? none : none with
        {
            Diagnostics =
            [
                new(AcpiProblem.BadChecksum, "RSDP", 8, $"what may be the root pointer at {decoy} does not sum to 0"),
                .. none.Diagnostics,
            ],
        };
    }

    /// <summary>Reads the tables that a root pointer at a known address leads to.</summary>
    public static AcpiTables ReadFrom<TMemory>(TMemory memory, PhysicalAddress rootPointer)
        where TMemory : struct, IPhysicalMemory
    {
        List<AcpiDiagnostic> diagnostics = [];
        List<AcpiTable> tables = [];
        Span<byte> rsdp = stackalloc byte[36];
        rsdp.Clear();
        if (!memory.TryRead(rootPointer, rsdp[..20]))
        {
            diagnostics.Add(new(AcpiProblem.Unreachable, "RSDP", 0, $"no memory at {rootPointer}"));
            return new(null, tables, diagnostics);
        }
        if (rsdp[15] >= 2 && !memory.TryRead(rootPointer, rsdp))
        {
            diagnostics.Add(new(AcpiProblem.Unreachable, "RSDP", 20,
                $"the extended bytes at {rootPointer} pass the end of memory; the RSDT is used"));
        }
        else if (rsdp[15] >= 2)
        {
            if (!AcpiTable.IsSumZero(rsdp))
            {
                diagnostics.Add(new(AcpiProblem.BadChecksum, "RSDP", 32,
                    "the extended bytes do not sum to 0; the XSDT is used all the same"));
            }
            PhysicalAddress xsdt = new(BinaryPrimitives.ReadUInt64LittleEndian(rsdp[24..]));
            if (xsdt.Value != 0 && ReadList(memory, xsdt, "XSDT", sizeof(ulong), tables, diagnostics))
            {
                return new(rootPointer, tables, diagnostics);
            }
        }
        ReadList(memory, new(BinaryPrimitives.ReadUInt32LittleEndian(rsdp[16..])), "RSDT", sizeof(uint), tables,
            diagnostics);
        return new(rootPointer, tables, diagnostics);
    }

    private static AcpiTables None(string why) =>
        new(null, [], [new(AcpiProblem.NoRootPointer, "RSDP", 0, why)]);

    private static PhysicalRange? DataArea<TMemory>(TMemory memory)
        where TMemory : struct, IPhysicalMemory
    {
        Span<byte> segment = stackalloc byte[sizeof(ushort)];
        if (!memory.TryRead(s_dataAreaSegment, segment)) { return null; }
        PhysicalAddress first = new((ulong)BinaryPrimitives.ReadUInt16LittleEndian(segment) << 4);
        PhysicalRange area = PhysicalRange.FromLength(first, 1024);
        return s_dataAreas.Contains(area) ? area : null;
    }

    // The first that is in order; else the first that is called one.
    private static PhysicalAddress? Search<TMemory>(
        TMemory memory, PhysicalRange area, ref PhysicalAddress? damaged)
        where TMemory : struct, IPhysicalMemory
    {
        for (PhysicalAddress at = area.First; at < area.Last; at += SearchStep)
        {
            if (!IsCalledRootPointer(memory, at)) { continue; }
            if (IsRootPointer(memory, at)) { return at; }
            damaged ??= at;
        }
        return null;
    }

    private static bool IsCalledRootPointer<TMemory>(TMemory memory, PhysicalAddress at)
        where TMemory : struct, IPhysicalMemory
    {
        Span<byte> name = stackalloc byte[sizeof(ulong)];
        return memory.TryRead(at, name) && BinaryPrimitives.ReadUInt64LittleEndian(name) == RootPointerWord;
    }

    private static bool IsRootPointer<TMemory>(TMemory memory, PhysicalAddress at)
        where TMemory : struct, IPhysicalMemory
    {
        Span<byte> first = stackalloc byte[20];
        return memory.TryRead(at, first) && BinaryPrimitives.ReadUInt64LittleEndian(first) == RootPointerWord
            && AcpiTable.IsSumZero(first);
    }

    private static bool ReadList<TMemory>(
        TMemory memory, PhysicalAddress at, string signature, int width, List<AcpiTable> tables,
        List<AcpiDiagnostic> diagnostics)
        where TMemory : struct, IPhysicalMemory
    {
        if (AcpiTable.Read(memory, at, diagnostics) is not { } list) { return false; }
        if (list.Signature != signature)
        {
            diagnostics.Add(new(AcpiProblem.UnexpectedSignature, signature, 0,
                $"the table at {at} is called {list.Signature}"));
            return false;
        }
        ReadOnlySpan<byte> entries = list.Body.Span;
        if (entries.Length % width != 0)
        {
            diagnostics.Add(new(AcpiProblem.TrailingBytes, signature, list.Bytes.Length - (entries.Length % width),
                "part of an entry"));
        }
        int bytes = 0;
        int most = MaximumTables * width;
        for (int offset = 0; entries.Length - offset >= width; offset += width)
        {
            if (offset == most || bytes > MaximumBytes)
            {
                diagnostics.Add(new(AcpiProblem.TooMany, signature, AcpiTable.HeaderLength + offset,
                    "more than 1024 tables, or than 64 MiB of them"));
                break;
            }
            ReadOnlySpan<byte> entry = entries[offset..];
            ulong address = width == sizeof(ulong)
                ? BinaryPrimitives.ReadUInt64LittleEndian(entry)
                : BinaryPrimitives.ReadUInt32LittleEndian(entry);
            if (address == 0 || AcpiTable.Read(memory, new(address), diagnostics) is not { } table) { continue; }
            bytes += table.Bytes.Length;
            tables.Add(table);
        }
        return true;
    }
}
