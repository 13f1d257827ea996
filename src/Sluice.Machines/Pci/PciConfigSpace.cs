using System.Buffers.Binary;

namespace Sluice.Machines;

/// <summary>
/// The configuration space of one function: bytes, and a mask of the bits that software may write. BAR sizing needs
/// nothing more: writing ones to a BAR reads back its size, because only its upper bits are writable. Safe from any
/// thread.
/// </summary>
/// <remarks>
/// 256 bytes for a conventional function, 4096 for PCI Express. Any 1 to 4 bytes in a row; an access that reaches past
/// the end reads all ones.
/// </remarks>
public sealed class PciConfigSpace
{
    private readonly Lock _lock = new();
    private readonly byte[] _bytes;
    private readonly byte[] _writable;
    private readonly byte[] _reset;
    private int _lastCapability = PciConfig.CapabilityPointer;
    private int _free = PciConfig.FirstCapability;

    internal PciConfigSpace(in PciIdentity identity, bool express)
    {
        _bytes = new byte[express ? PciConfig.ExpressSize : PciConfig.ConventionalSize];
        _writable = new byte[_bytes.Length];
        _reset = new byte[_bytes.Length];
        Set16(PciConfig.Vendor, identity.VendorId);
        Set16(PciConfig.Device, identity.DeviceId);
        _bytes[PciConfig.Revision] = identity.Revision;
        _bytes[PciConfig.ClassCode] = (byte)identity.ClassCode;
        Set16(PciConfig.ClassCode + 1, (ushort)(identity.ClassCode >> 8));
        Set16(PciConfig.SubsystemVendor, identity.SubsystemVendorId);
        Set16(PciConfig.Subsystem, identity.SubsystemId);
        Allow16(PciConfig.Command, PciConfig.CommandIo | PciConfig.CommandMemory | PciConfig.CommandBusMaster
            | PciConfig.CommandSystemError | PciConfig.CommandInterruptDisable);
        _writable[PciConfig.CacheLineSize] = 0xFF;
        _writable[PciConfig.InterruptLine] = 0xFF;
    }

    /// <summary>Runs after every write, outside the lock: what software changed takes effect.</summary>
    internal Action? Written { get; set; }

    /// <summary>256 or 4096.</summary>
    public int Length => _bytes.Length;

    /// <summary>Reads 1 to 4 bytes.</summary>
    public uint Read(int offset, int size)
    {
        if (!IsValid(offset, size)) { return size >= 4 ? uint.MaxValue : (1u << (size * 8)) - 1; }
        uint value = 0;
        lock (_lock)
        {
            for (int i = 0; i < size; i++) { value |= (uint)_bytes[offset + i] << (8 * i); }
        }
        return value;
    }

    /// <summary>Writes 1 to 4 bytes; bits that are not writable keep their value.</summary>
    public void Write(int offset, int size, uint value)
    {
        if (!IsValid(offset, size)) { return; }
        lock (_lock)
        {
            for (int i = 0; i < size; i++)
            {
                byte mask = _writable[offset + i];
                byte incoming = (byte)(value >> (i * 8));
                _bytes[offset + i] = (byte)((_bytes[offset + i] & ~mask) | (incoming & mask));
            }
        }
        Written?.Invoke();
    }

    /// <summary>All bytes as they are now.</summary>
    public byte[] Snapshot()
    {
        lock (_lock) { return (byte[])_bytes.Clone(); }
    }

    /// <summary>Sets bytes that software cannot write.</summary>
    internal void Set16(int offset, ushort value)
    {
        lock (_lock) { BinaryPrimitives.WriteUInt16LittleEndian(_bytes.AsSpan(offset), value); }
    }

    /// <summary>Sets or clears status bits that follow the device.</summary>
    internal void SetStatus(ushort bits, bool isSet)
    {
        lock (_lock)
        {
            Span<byte> status = _bytes.AsSpan(PciConfig.Status);
            ushort before = BinaryPrimitives.ReadUInt16LittleEndian(status);
            BinaryPrimitives.WriteUInt16LittleEndian(status, (ushort)(isSet ? before | bits : before & ~bits));
        }
    }

    internal void Set32(int offset, uint value)
    {
        lock (_lock) { BinaryPrimitives.WriteUInt32LittleEndian(_bytes.AsSpan(offset), value); }
    }

    internal void Set8(int offset, byte value)
    {
        lock (_lock) { _bytes[offset] = value; }
    }

    /// <summary>Lets software write these bits.</summary>
    internal void Allow16(int offset, int mask) =>
        BinaryPrimitives.WriteUInt16LittleEndian(_writable.AsSpan(offset), (ushort)mask);

    internal void Allow32(int offset, uint mask) =>
        BinaryPrimitives.WriteUInt32LittleEndian(_writable.AsSpan(offset), mask);

    /// <summary>Links a capability of <paramref name="length"/> bytes into the list and gives its offset.</summary>
    internal int AddCapability(byte id, int length)
    {
        int offset = _free;
        if (offset + length > PciConfig.ConventionalSize)
        {
            throw new InvalidOperationException("no room for another capability");
        }
        _free = (offset + length + 3) & ~3;
        lock (_lock)
        {
            _bytes[offset] = id;
            bool isFirst = _lastCapability == PciConfig.CapabilityPointer;
            _bytes[isFirst ? _lastCapability : _lastCapability + 1] = (byte)offset;
            _bytes[PciConfig.Status] |= (byte)PciConfig.StatusCapabilities;
        }
        _lastCapability = offset;
        return offset;
    }

    /// <summary>What the bytes are now is what a reset brings back.</summary>
    internal void KeepAsReset()
    {
        lock (_lock) { _bytes.CopyTo(_reset, 0); }
    }

    /// <summary>Every bit that software can write becomes what it was after power-on: a reset.</summary>
    internal void ResetWritable()
    {
        lock (_lock)
        {
            for (int i = 0; i < _bytes.Length; i++)
            {
                _bytes[i] = (byte)((_bytes[i] & ~_writable[i]) | (_reset[i] & _writable[i]));
            }
        }
        Written?.Invoke();
    }

    private bool IsValid(int offset, int size) =>
        size is >= 1 and <= 4 && offset >= 0 && offset <= _bytes.Length - size;
}
