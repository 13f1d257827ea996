using System.Buffers.Binary;
using System.Text;

namespace Sluice.Machines.Qemu;

/// <summary>
/// The part of firmware that operating-system code depends on, since none runs under qtest: it opens the ECAM window,
/// makes the BIOS area RAM, and puts the ACPI tables that QEMU offers where its linker script says.
/// </summary>
/// <remarks>
/// fw_cfg: selector at port 0x510, DMA address register at 0x514, all big-endian (QEMU's fw_cfg specification).
/// The linker script <c>etc/table-loader</c>: 128-byte commands, little-endian: 1 allocate (file, alignment, zone),
/// 2 add pointer (file, pointee, offset, size), 3 add checksum (file, offset, start, length); unknown ones are skipped.
/// </remarks>
internal sealed class QemuFirmware(PhysicalMemory memory, IPortIo ports, PhysicalRange area)
{
    private const ushort FwCfgDma = 0x514;
    private const ushort DirectorySelector = 0x19;
    private const uint DmaRead = 2;
    private const uint DmaSelect = 8;
    private const int NameBytes = 56;
    private const int MostFiles = 1024;
    private const int MostCommandBytes = 1 << 20;

    private static readonly PciAddress HostBridge = PciAddress.From(0, 0, 0);
    private readonly Dictionary<string, PhysicalRange> _files = new(StringComparer.Ordinal);
    private PhysicalAddress _nextHigh = area.First + 0x1000;
    private PhysicalAddress _nextLow = new(0xF_0000);

    /// <exception cref="QemuException">QEMU offers no tables, or ones that do not fit together.</exception>
    public void Run()
    {
        IPciConfiguration pci = new PciPorts(ports);
        pci.Write32(HostBridge, 0x60, 0xB000_0001);
        pci.Write32(HostBridge, 0x64, 0);
        // The F segment has a register half of its own, the other six registers hold two segments each: reads and
        // writes go to RAM.
        pci.Write32(HostBridge, 0x90, 0x3333_3330);
        pci.Write32(HostBridge, 0x94, 0x0033_3333);

        Dictionary<string, (ushort Selector, uint Size)> directory = ReadDirectory();
        if (!directory.TryGetValue("etc/table-loader", out (ushort Selector, uint Size) loader)
            || loader.Size > MostCommandBytes)
        {
            throw new QemuException("QEMU offers no ACPI tables");
        }
        // The script comes last and is rebuilt with the tables: the first read of any of them settles all.
        byte[] script = Read(loader.Selector, loader.Size);
        for (int at = 0; at + 128 <= script.Length; at += 128) { Execute(script.AsSpan(at, 128), directory); }
    }

    private void Execute(ReadOnlySpan<byte> command, Dictionary<string, (ushort Selector, uint Size)> directory)
    {
        ReadOnlySpan<byte> arguments = command[4..];
        switch (BinaryPrimitives.ReadUInt32LittleEndian(command))
        {
            case 1:
                Allocate(Name(arguments), U32(arguments, NameBytes), arguments[NameBytes + 4], directory);
                break;
            case 2:
                PhysicalRange pointee = File(Name(arguments[NameBytes..]));
                AddPointer(File(Name(arguments)), pointee.First, U32(arguments, 2 * NameBytes),
                    arguments[2 * NameBytes + 4]);
                break;
            case 3:
                AddChecksum(
                    File(Name(arguments)), U32(arguments, NameBytes), U32(arguments, NameBytes + 4),
                    U32(arguments, NameBytes + 8));
                break;
            default:
                break;
        }
    }

    private void Allocate(string file, uint alignment, byte zone, Dictionary<string,
        (ushort Selector, uint Size)> directory)
    {
        const byte LowZone = 2;
        if (!directory.TryGetValue(file,
            out (ushort Selector, uint Size) entry)) { throw Malformed($"names {file}, which is not there"); }
        ref PhysicalAddress next = ref _nextHigh;
        PhysicalAddress last = area.Last;
        if (zone == LowZone)
        {
            next = ref _nextLow;
            last = new(0xF_FFFF);
        }
        ulong align = Math.Max(alignment, 1);
        PhysicalAddress first = new((next.Value + align - 1) / align * align);
        if (entry.Size == 0 || first + entry.Size - 1 > last) { throw Malformed(
            $"wants {entry.Size} bytes for {file}, which do not fit"); }
        next = first + entry.Size;
        _files[file] = PhysicalRange.FromLength(first, entry.Size);
        if (!memory.TryWrite(first, Read(entry.Selector, entry.Size))) { throw Malformed(
            $"puts {file} where there is no memory"); }
    }

    /// <summary>The field holds an offset into the pointee; it becomes an address.</summary>
    private void AddPointer(PhysicalRange file, PhysicalAddress pointee, uint offset, byte size)
    {
        if (size is not (1 or 2 or 4 or 8)) { throw Malformed($"patches a pointer of {size} bytes"); }
        Span<byte> field = stackalloc byte[8];
        field.Clear();
        PhysicalAddress at = Inside(file, offset, size);
        memory.TryRead(at, field[..size]);
        BinaryPrimitives.WriteUInt64LittleEndian(field, BinaryPrimitives.ReadUInt64LittleEndian(field) + pointee.Value);
        memory.TryWrite(at, field[..size]);
    }

    private void AddChecksum(PhysicalRange file, uint offset, uint start, uint length)
    {
        PhysicalAddress at = Inside(file, offset, 1);
        byte[] bytes = new byte[length];
        memory.TryRead(Inside(file, start, length), bytes);
        byte sum = 0;
        foreach (byte b in bytes) { sum += b; }
        Span<byte> old = stackalloc byte[1];
        memory.TryRead(at, old);
        memory.TryWrite(at, [(byte)(old[0] - sum)]);
    }

    private Dictionary<string, (ushort Selector, uint Size)> ReadDirectory()
    {
        int count = (int)Math.Min(BinaryPrimitives.ReadUInt32BigEndian(Read(DirectorySelector, 4)), MostFiles);
        byte[] bytes = Read(DirectorySelector, (uint)(4 + count * 64));
        Dictionary<string, (ushort Selector, uint Size)> files = new(StringComparer.Ordinal);
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> entry = bytes.AsSpan(4 + i * 64, 64);
            files[Name(entry[8..])] = (BinaryPrimitives.ReadUInt16BigEndian(entry[4..]),
                BinaryPrimitives.ReadUInt32BigEndian(entry));
        }
        return files;
    }

    /// <summary>
    /// Reads a fw_cfg item by its DMA interface: one command block, the data behind it, both in the area.
    /// </summary>
    private byte[] Read(ushort selector, uint length)
    {
        PhysicalAddress block = area.First;
        PhysicalAddress data = area.Last + 1 - ((length + 0xFFF) & ~0xFFFUL);
        if (length > area.Length / 2) { throw Malformed($"has an item of {length} bytes"); }
        Span<byte> command = stackalloc byte[16];
        BinaryPrimitives.WriteUInt32BigEndian(command, ((uint)selector << 16) | DmaSelect | DmaRead);
        BinaryPrimitives.WriteUInt32BigEndian(command[4..], length);
        BinaryPrimitives.WriteUInt64BigEndian(command[8..], data.Value);
        memory.TryWrite(block, command);
        lock (ports.TwoStepAccess)
        {
            ports.Out32(FwCfgDma, BinaryPrimitives.ReverseEndianness((uint)(block.Value >> 32)));
            // The low half starts the transfer, which is over when the write is.
            ports.Out32(FwCfgDma + 4, BinaryPrimitives.ReverseEndianness((uint)block.Value));
        }
        memory.TryRead(block, command);
        if (BinaryPrimitives.ReadUInt32BigEndian(command) != 0) { throw new QemuException(
            $"QEMU does not hand out firmware item 0x{selector:X}"); }
        byte[] bytes = new byte[length];
        memory.TryRead(data, bytes);
        return bytes;
    }

    private PhysicalRange File(string name) =>
        _files.TryGetValue(name, out PhysicalRange range) ? range
            : throw Malformed($"patches {name}, which it did not allocate");

    private static PhysicalAddress Inside(PhysicalRange file, uint offset, uint length) =>
        length != 0 && (ulong)offset + length <= file.Length ? file.First + offset
            : throw Malformed("patches beyond the end of a file");

    private static string Name(ReadOnlySpan<byte> field)
    {
        ReadOnlySpan<byte> name = field[..NameBytes];
        int end = name.IndexOf((byte)0);
        return Encoding.ASCII.GetString(end < 0 ? name : name[..end]);
    }

    private static uint U32(ReadOnlySpan<byte> bytes, int offset) =>
        BinaryPrimitives.ReadUInt32LittleEndian(bytes[offset..]);

    private static QemuException Malformed(string what) => new($"QEMU's ACPI linker script {what}");
}
