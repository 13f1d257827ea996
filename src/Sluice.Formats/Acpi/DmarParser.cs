using static System.Buffers.Binary.BinaryPrimitives;

namespace Sluice.Formats.Acpi;

/// <summary>
/// Reads a DMAR table. Every loop advances by at least four bytes, so it ends with the table; and what it makes of a
/// table is bounded, however many structures or mistakes there are.
/// </summary>
internal sealed class DmarParser(AcpiTable table)
{
    private const int FirstStructure = 48;
    private const int Head = 4;
    private const int ScopeHead = 6;
    private const int LeastAddressBits = 32;
    private const int MostAddressBits = 52;
    private const int MostStructures = 4096;
    private const int MostScopes = 65_536;
    private const int MostDiagnostics = 256;

    private readonly List<AcpiDiagnostic> _diagnostics = [];
    private readonly List<DmarUnit> _units = [];
    private readonly List<DmarReservedRegion> _regions = [];
    private readonly List<DmarScopeList> _rootPorts = [];
    private readonly List<DmarAffinity> _affinities = [];
    private readonly List<DmarNamedDevice> _named = [];
    private readonly List<DmarScopeList> _caches = [];
    private readonly List<DmarScopeList> _integrated = [];
    private int _scopes;
    private bool _tooMany;

    public DmarTable Parse()
    {
        ReadOnlySpan<byte> bytes = table.Bytes.Span;
        if (table.Check("DMAR", FirstStructure) is { } problem) { _diagnostics.Add(problem); }
        int addressBits = bytes.Length > 36 ? bytes[36] + 1 : 0;
        if (bytes.Length > 36 && addressBits is < LeastAddressBits or > MostAddressBits)
        {
            Report(AcpiProblem.BadAddressWidth, 36, $"physical addresses of {addressBits} bits, 32 to 52 are possible");
        }
        byte flags = bytes.Length > 37 ? bytes[37] : (byte)0;
        int offset = Math.Min(FirstStructure, bytes.Length);
        for (int count = 0; bytes.Length - offset >= Head && !AcpiTable.IsPadding(bytes[offset..]); count++)
        {
            if (count == MostStructures) { Overflow(offset, $"more than {MostStructures} structures"); }
            if (_tooMany) { break; }
            int length = ReadUInt16LittleEndian(bytes[(offset + 2)..]);
            if (length < Head)
            {
                Report(AcpiProblem.StructureTooShort, offset,
                    $"a structure of {length} bytes; what follows it is lost");
                offset = bytes.Length;
                break;
            }
            if (length > bytes.Length - offset)
            {
                Report(AcpiProblem.StructureTooLong, offset,
                    $"a structure of {length} bytes, {bytes.Length - offset} are left");
                length = bytes.Length - offset;
            }
            Structure(bytes.Slice(offset, length), offset);
            offset += length;
        }
        if (bytes.Length - offset < Head && !AcpiTable.IsPadding(bytes[offset..]))
        {
            Report(AcpiProblem.TrailingBytes, offset, $"{bytes.Length - offset} bytes");
        }
        return new(addressBits, flags, _units, _regions, _rootPorts, _affinities, _named, _caches, _integrated,
            _diagnostics);
    }

    private void Structure(ReadOnlySpan<byte> s, int offset)
    {
        int type = ReadUInt16LittleEndian(s);
        int needed = type switch { 0 => 16, 1 => 24, 2 => 8, 3 => 20, 4 => 8, 5 => 8, 6 => 8, _ => 0 };
        if (needed == 0)
        {
            Report(AcpiProblem.UnknownStructure, offset, $"a structure of type {type}, {s.Length} bytes, skipped");
            return;
        }
        if (s.Length < needed)
        {
            Report(AcpiProblem.StructureTooShort, offset,
                $"a structure of type {type} has {s.Length} bytes, {needed} needed");
            return;
        }
        switch (type)
        {
            case 0: Unit(s, offset); break;
            case 1: Region(s, offset); break;
            case 2: _rootPorts.Add(ScopeList(s, s[4], offset)); break;
            case 3: _affinities.Add(new(new(ReadUInt64LittleEndian(s[8..])), ReadUInt32LittleEndian(s[16..]))); break;
            case 4: Named(s, offset); break;
            case 5: _caches.Add(ScopeList(s, s[4], offset)); break;
            default: _integrated.Add(ScopeList(s, 0, offset)); break;
        }
    }

    private void Unit(ReadOnlySpan<byte> s, int offset)
    {
        ulong registers = ReadUInt64LittleEndian(s[8..]);
        if (registers is 0 or ulong.MaxValue)
        {
            Report(AcpiProblem.NoRegisters, offset + 8, $"a unit with registers at 0x{registers:X}");
        }
        else if ((registers & 0xFFF) != 0)
        {
            Report(AcpiProblem.NotOnPage, offset + 8, $"a unit with registers at 0x{registers:X}");
        }
        List<DmarScope> scopes = Scopes(s[16..], offset + 16);
        _units.Add(new(ReadUInt16LittleEndian(s[6..]), new(registers), s[5] & 0xF, (s[4] & 1) != 0, scopes));
    }

    private void Region(ReadOnlySpan<byte> s, int offset)
    {
        ulong first = ReadUInt64LittleEndian(s[8..]), last = ReadUInt64LittleEndian(s[16..]);
        if (last < first)
        {
            Report(AcpiProblem.ReversedRange, offset + 8, $"reserved memory from 0x{first:X} to 0x{last:X}, left out");
            return;
        }
        if ((first & 0xFFF) != 0 || (last & 0xFFF) != 0xFFF)
        {
            Report(AcpiProblem.NotOnPage, offset + 8, $"reserved memory from 0x{first:X} to 0x{last:X}");
        }
        _regions.Add(new(ReadUInt16LittleEndian(s[6..]), new(new(first), new(last)), Scopes(s[24..], offset + 24)));
    }

    private DmarScopeList ScopeList(ReadOnlySpan<byte> s, byte flags, int offset) =>
        new(ReadUInt16LittleEndian(s[6..]), flags, Scopes(s[8..], offset + 8));

    private void Named(ReadOnlySpan<byte> s, int offset)
    {
        ReadOnlySpan<byte> name = s[8..];
        int end = name.IndexOf((byte)0);
        if (end < 0) { Report(AcpiProblem.UnterminatedName, offset + 8, "a device name"); }
        _named.Add(new(s[7], AcpiTable.Text(end < 0 ? name : name[..end])));
    }

    private List<DmarScope> Scopes(ReadOnlySpan<byte> bytes, int offset)
    {
        List<DmarScope> scopes = [];
        int at = 0;
        while (bytes.Length - at >= ScopeHead && !AcpiTable.IsPadding(bytes[at..]))
        {
            if (++_scopes > MostScopes) { Overflow(offset + at, $"more than {MostScopes} device scopes"); }
            if (_tooMany) { return scopes; }
            int length = bytes[at + 1];
            if (length < ScopeHead)
            {
                Report(AcpiProblem.StructureTooShort, offset + at,
                    $"a device scope of {length} bytes; what follows it is lost");
                return scopes;
            }
            if (length > bytes.Length - at)
            {
                Report(AcpiProblem.StructureTooLong, offset + at,
                    $"a device scope of {length} bytes, {bytes.Length - at} are left");
                length = bytes.Length - at;
            }
            scopes.Add(Scope(bytes.Slice(at, length), offset + at));
            at += length;
        }
        if (!AcpiTable.IsPadding(bytes[at..]))
        {
            Report(AcpiProblem.TrailingBytes, offset + at, $"{bytes.Length - at} bytes after a device scope");
        }
        return scopes;
    }

    private DmarScope Scope(ReadOnlySpan<byte> s, int offset)
    {
        if (s[0] is 0 or > 5) { Report(AcpiProblem.UnknownScope, offset, $"a device scope of type {s[0]}"); }
        if (s.Length == ScopeHead || s.Length % 2 != 0)
        {
            Report(AcpiProblem.BadPath, offset, $"a path of {s.Length - ScopeHead} bytes");
        }
        List<PciStep> path = [];
        for (int at = ScopeHead; at + 1 < s.Length; at += 2) { path.Add(new(s[at], s[at + 1])); }
        return new((DmarScopeType)s[0], s[2], s[4], s[5], path);
    }

    private void Report(AcpiProblem problem, int offset, string detail)
    {
        if (_diagnostics.Count < MostDiagnostics) { _diagnostics.Add(new(problem, "DMAR", offset, detail)); }
        else { Overflow(offset, $"more than {MostDiagnostics} mistakes"); }
    }

    private void Overflow(int offset, string detail)
    {
        if (!_tooMany) { _diagnostics.Add(new(AcpiProblem.TooMany, "DMAR", offset, detail)); }
        _tooMany = true;
    }
}
