using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using Sluice.Iommu;

namespace Sluice.Machines;

/// <summary>
/// What a device model reaches memory through. A request is split at pages; each piece is one bounded section that the
/// unit's invalidations wait for. Used by one thread at a time; the counters may be read from any.
/// </summary>
/// <remarks>
/// Allocates nothing and takes no lock. A refused piece is a result, never an exception. Whether the function may
/// master the bus is looked at inside the section: who clears that and then drains the unit knows that no piece passes
/// any more. So a <see cref="MemoryPort{TMemory}"/>, which begins its sections itself, would not do here.
/// </remarks>
public sealed class DmaPort
{
    private const int PageSize = (int)MachineMap.PageSize;
    private readonly PhysicalMemory _memory;
    private readonly IRemappingUnit? _unit;
    private readonly TranslationPort? _port;
    private readonly IInterruptSink _interrupts;
    private readonly PciDevice _device;
    private readonly ulong _windowFirst;
    private readonly ulong _windowLength;
    private long _pieces;
    private long _bytes;
    private long _refused;
    private long _busMasterOff;
    private long _masterAborts;
    private long _messages;

    internal DmaPort(RootComplex root, PciDevice device, string name)
    {
        (_memory, _unit, _interrupts, _device) = (root.Memory, root.Unit, root.Interrupts, device);
        _port = root.Unit?.Connect(name);
        // Without a window its length is 0, and no address is inside.
        if (root.InterruptWindow is { } window)
        {
            (_windowFirst, _windowLength) = (window.First.Value, window.Length);
        }
    }

    /// <summary>
    /// The id that every request carries unless the caller forges another. Behind a <see cref="PciBridge"/> neither
    /// reaches the root complex: the bridge's id does.
    /// </summary>
    public RequesterId Requester => _device.Address.Requester;

    /// <summary>Pieces (at most a page each) that were moved.</summary>
    public long Pieces => Volatile.Read(ref _pieces);

    /// <summary>Bytes moved.</summary>
    public long Bytes => Volatile.Read(ref _bytes);

    /// <summary>Requests that the remapping unit refused; each is a record or a lost count there.</summary>
    public long Refused => Volatile.Read(ref _refused);

    /// <summary>Requests stopped before the unit because the function's bus master enable is off.</summary>
    public long BusMasterOff => Volatile.Read(ref _busMasterOff);

    /// <summary>Requests that the unit passed, or that had no unit, and that found no memory.</summary>
    public long MasterAborts => Volatile.Read(ref _masterAborts);

    /// <summary>Interrupt messages delivered.</summary>
    public long Messages => Volatile.Read(ref _messages);

    /// <summary>The device reads memory. Splits at pages; stops at the first refused piece.</summary>
    public DmaStatus Read(LogicalAddress address, Span<byte> destination) => Read(Requester, address, destination);

    /// <summary>
    /// The device writes memory. Splits at pages; stops at the first refused piece. A multiple of 8 up to 64 bytes at
    /// an 8-byte boundary becomes ascending 64-bit stores: who sees the last word sees them all.
    /// </summary>
    public DmaStatus Write(LogicalAddress address, ReadOnlySpan<byte> source) => Write(Requester, address, source);

    /// <summary>A read under any requester id: what a hostile device may put on the bus.</summary>
    public DmaStatus Read(RequesterId requester, LogicalAddress address, Span<byte> destination)
    {
        SourceId sender = OnTheBus(requester);
        while (!destination.IsEmpty)
        {
            int length = Math.Min(destination.Length, PageSize - (int)address.OffsetIn(MachineMap.PageLog2));
            if (!ReadPiece(sender, address, destination[..length]))
            {
                destination.Fill(0xFF);
                return DmaStatus.Refused;
            }
            destination = destination[length..];
            address += (ulong)length;
        }
        return DmaStatus.Completed;
    }

    /// <summary>A write under any requester id: what a hostile device may put on the bus.</summary>
    public DmaStatus Write(RequesterId requester, LogicalAddress address, ReadOnlySpan<byte> source)
    {
        SourceId sender = OnTheBus(requester);
        while (!source.IsEmpty)
        {
            int length = Math.Min(source.Length, PageSize - (int)address.OffsetIn(MachineMap.PageLog2));
            if (!WritePiece(sender, address, source[..length])) { return DmaStatus.Refused; }
            source = source[length..];
            address += (ulong)length;
        }
        return DmaStatus.Completed;
    }

    /// <summary>
    /// Sends an interrupt: a 32-bit write like any other, so a wrong address is a DMA to that address.
    /// </summary>
    public DmaStatus Send(MsiMessage message)
    {
        Span<byte> data = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(data, message.Data);
        return Write(Requester, message.Address, data);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool ReadPiece(SourceId sender, LogicalAddress address, Span<byte> destination)
    {
        if (_port is null)
        {
            if (!_device.MayMaster) { return Count(ref _busMasterOff); }
            // The interrupt window takes writes only, and no memory lies there.
            bool read = _memory.TryRead(new(address.Value), destination);
            return read ? Moved(destination.Length) : Count(ref _masterAborts);
        }
        if (!TryEnter(_port)) { return Count(ref _busMasterOff); }
        bool allowed = _unit!.TryTranslate(_port, new(sender, address, DmaAccess.Read), out PhysicalRun run);
        bool moved = allowed && Covers(run, destination.Length) && _memory.TryRead(run.First, destination);
        _port.Exit();
        return moved ? Moved(destination.Length) : Count(ref allowed ? ref _masterAborts : ref _refused);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool WritePiece(SourceId sender, LogicalAddress address, ReadOnlySpan<byte> source)
    {
        if (source.Length == sizeof(uint) && address.Value - _windowFirst < _windowLength)
        {
            return Interrupt(sender, address, source);
        }
        if (_port is null)
        {
            if (!_device.MayMaster) { return Count(ref _busMasterOff); }
            return Store(new(address.Value), source) ? Moved(source.Length) : Count(ref _masterAborts);
        }
        if (!TryEnter(_port)) { return Count(ref _busMasterOff); }
        bool allowed = _unit!.TryTranslate(_port, new(sender, address, DmaAccess.Write), out PhysicalRun run);
        bool moved = allowed && Covers(run, source.Length) && Store(run.First, source);
        _port.Exit();
        return moved ? Moved(source.Length) : Count(ref allowed ? ref _masterAborts : ref _refused);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool TryEnter(TranslationPort port)
    {
        port.Enter();
        if (_device.MayMaster) { return true; }
        port.Exit();
        return false;
    }

    // A piece ends with its page of 4 KiB; a unit with smaller ones needs smaller pieces.
    private static bool Covers(in PhysicalRun run, int length) => (ulong)length <= run.Length;

    private SourceId OnTheBus(RequesterId requester) =>
        new PciAddress(_device.Address.Segment, _device.OnTheBus(requester));

    private bool Store(PhysicalAddress address, ReadOnlySpan<byte> source) =>
        source.Length > 64 ? _memory.TryWrite(address, source) : _memory.TryWriteInOrder(address, source);

    private bool Interrupt(SourceId sender, LogicalAddress address, ReadOnlySpan<byte> source)
    {
        MsiMessage message = new(address, BinaryPrimitives.ReadUInt32LittleEndian(source));
        if (!_device.MayMaster) { return Count(ref _busMasterOff); }
        if (!address.IsAligned(2)) { return Count(ref _masterAborts); }
        if (_port is not null)
        {
            _port.Enter();
            bool allowed = _unit!.TryRemapInterrupt(_port, sender, message, out message);
            _port.Exit();
            if (!allowed) { return Count(ref _refused); }
        }
        _interrupts.Deliver(message);
        Volatile.Write(ref _messages, _messages + 1);
        return true;
    }

    // Counters have one writer; plain adds published by volatile stores cost no lock prefix.
    private bool Moved(int length)
    {
        Volatile.Write(ref _pieces, _pieces + 1);
        Volatile.Write(ref _bytes, _bytes + length);
        return true;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static bool Count(ref long counter)
    {
        Volatile.Write(ref counter, counter + 1);
        return false;
    }
}
