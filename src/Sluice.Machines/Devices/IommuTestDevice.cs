using System.Buffers.Binary;

namespace Sluice.Machines;

/// <summary>
/// QEMU's device for testing remapping units, <c>iommu-testdev</c>, 1b36:0005: it writes a pattern to an address, reads
/// it back from where the address should lead, and says what became of it. Its DMA is over when the read of the first
/// register is answered.
/// <code>
/// BAR 0, 4 KiB; 4-byte accesses, and 8-byte ones as two of them
///  00 RO  reads 0; carries out what is armed    14 WO  bit 0 arms, else disarms
///  04 RW  logical address, low half             18 RW  attributes, see below; 2 after power-on
///  08 RW  its high half                         1C RW  physical address, low half
///  0C RW  byte count                            20 RW  its high half
///  10 RW  result
///
/// result: 0 done, FFFF_FFFF nothing was armed yet, FFFF_FFFE armed, else DEAD_000n:
///  1 byte count, 2 the write was refused, 3 the read was refused, 4 other bytes were read, 5 nothing was armed,
///  6 attributes
/// attributes: bit 0 secure, bits 2:1 space, bit 3 the space counts: then 0 goes with secure and 1 with not secure
/// </code>
/// </summary>
/// <remarks>
/// <para>QEMU's "iommu-testdev" page; what it leaves open was seen on QEMU 11. The pattern is 0x12345678, byte by byte
/// from the first address on, lowest first. A refused page does not stop those after it. The bus master enable is not
/// asked, as there.</para>
/// <para>A byte count over 16 MiB is an error here, where QEMU takes any. Safe from any thread; a DMA runs on the
/// thread that reads the register.</para>
/// </remarks>
public sealed class IommuTestDevice : PciDevice
{
    private const ulong MostBytes = 16 << 20;
    private const uint Pattern = 0x1234_5678;
    private const uint Done = 0;
    private const uint NothingYet = 0xFFFF_FFFF;
    private const uint Armed = 0xFFFF_FFFE;
    private const uint BadCount = 0xDEAD_0001;
    private const uint WriteRefused = 0xDEAD_0002;
    private const uint ReadRefused = 0xDEAD_0003;
    private const uint OtherBytes = 0xDEAD_0004;
    private const uint NotArmed = 0xDEAD_0005;
    private const uint BadAttributes = 0xDEAD_0006;
    private const uint NotSecure = 1 << 1;
    private const int PageSize = (int)MachineMap.PageSize;

    // The port belongs to whoever holds the lock: there is no work in Step.
    private readonly Lock _lock = new();
    private readonly byte[] _expected = new byte[PageSize];
    private readonly byte[] _found = new byte[PageSize];
    private ulong _logical;
    private ulong _physical;
    private uint _count;
    private uint _result = NothingYet;
    private uint _attributes = NotSecure;
    private bool _isArmed;

    /// <summary>A device, not plugged in yet.</summary>
    public IommuTestDevice()
        : base("iommu-testdev", new(0x1B36, 0x0005, 0x00_FF_00), express: false)
    {
        IgnoresBusMasterEnable = true;
        AddBar(0, 0x1000);
    }

    /// <inheritdoc/>
    public override ulong ReadBar(int bar, ulong offset, int size)
    {
        if (size < sizeof(uint)) { return 0; }
        lock (_lock)
        {
            ulong low = Read((uint)offset);
            return size == sizeof(uint) ? low : low | ((ulong)Read((uint)offset + 4) << 32);
        }
    }

    /// <inheritdoc/>
    public override void WriteBar(int bar, ulong offset, int size, ulong value)
    {
        if (size < sizeof(uint)) { return; }
        lock (_lock)
        {
            Write((uint)offset, (uint)value);
            if (size > sizeof(uint)) { Write((uint)offset + 4, (uint)(value >> 32)); }
        }
    }

    /// <inheritdoc/>
    public override bool Step() => false;

    /// <inheritdoc/>
    public override void Reset()
    {
        lock (_lock)
        {
            (_logical, _physical, _count, _isArmed) = (0, 0, 0, false);
            (_result, _attributes) = (NothingYet, NotSecure);
        }
    }

    private uint Read(uint offset)
    {
        switch (offset)
        {
            case 0x00:
                _result = CarryOut();
                return 0;
            case 0x04: return (uint)_logical;
            case 0x08: return (uint)(_logical >> 32);
            case 0x0C: return _count;
            case 0x10: return _result;
            case 0x18: return _attributes;
            case 0x1C: return (uint)_physical;
            case 0x20: return (uint)(_physical >> 32);
            default: return 0;
        }
    }

    private void Write(uint offset, uint value)
    {
        switch (offset)
        {
            case 0x04: _logical = (_logical & ~0xFFFF_FFFFUL) | value; break;
            case 0x08: _logical = (uint)_logical | ((ulong)value << 32); break;
            case 0x0C: _count = value; break;
            case 0x10: _result = value; break;
            case 0x14:
                _isArmed = (value & 1) != 0;
                _result = _isArmed ? Armed : NothingYet;
                break;
            case 0x18: _attributes = value; break;
            case 0x1C: _physical = (_physical & ~0xFFFF_FFFFUL) | value; break;
            case 0x20: _physical = (uint)_physical | ((ulong)value << 32); break;
            default: break;
        }
    }

    private uint CarryOut()
    {
        if (!_isArmed) { return NotArmed; }
        _isArmed = false;
        if (_count is 0 or > (uint)MostBytes) { return BadCount; }
        if (!AreAttributesGood(_attributes)) { return BadAttributes; }
        bool written = true;
        for (uint at = 0; at < _count;)
        {
            LogicalAddress address = new(unchecked(_logical + at));
            ReadOnlySpan<byte> piece = Expected(at, (int)address.OffsetIn(MachineMap.PageLog2));
            written &= Dma.Write(address, piece) == DmaStatus.Completed;
            at += (uint)piece.Length;
        }
        return written ? Compare() : WriteRefused;
    }

    private uint Compare()
    {
        bool read = true, same = true;
        for (uint at = 0; at < _count;)
        {
            PhysicalAddress address = new(unchecked(_physical + at));
            ReadOnlySpan<byte> piece = Expected(at, (int)address.OffsetIn(MachineMap.PageLog2));
            Span<byte> found = _found.AsSpan(0, piece.Length);
            read &= SystemMemory.TryRead(address, found);
            same &= found.SequenceEqual(piece);
            at += (uint)piece.Length;
        }
        return !read ? ReadRefused : same ? Done : OtherBytes;
    }

    /// <summary>The pattern's bytes from the one of number <paramref name="at"/> to the end of the page.</summary>
    private ReadOnlySpan<byte> Expected(uint at, int pageOffset)
    {
        Span<byte> piece = _expected.AsSpan(0, (int)Math.Min((uint)(PageSize - pageOffset), _count - at));
        Span<byte> pattern = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(pattern, Pattern);
        for (int i = 0; i < piece.Length; i++) { piece[i] = pattern[(int)(at + (uint)i) & 3]; }
        return piece;
    }

    private static bool AreAttributesGood(uint attributes)
    {
        const uint SpaceCounts = 1 << 3;
        bool isSecure = (attributes & 1) != 0;
        return (attributes & SpaceCounts) == 0 || ((attributes >> 1) & 3) switch
        {
            0 => isSecure,
            1 => !isSecure,
            _ => true,
        };
    }
}
