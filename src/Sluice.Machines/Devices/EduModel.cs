namespace Sluice.Machines;

/// <summary>How an <see cref="EduModel"/> behaves.</summary>
public sealed record EduOptions
{
    /// <summary>
    /// DMA addresses are cut to these bits: 28 of them by default, so that drivers must say what they can reach.
    /// </summary>
    public ulong DmaMask { get; init; } = (1UL << 28) - 1;

    /// <summary>From the command to the transfer, in platform time. 100 ms by default; 0 is at once.</summary>
    public long DmaDelayNanoseconds { get; init; } = 100_000_000;
}

/// <summary>
/// QEMU's educational device, 1234:11e8: an inverter, a factorial, and DMA between memory and a buffer of 4 KiB.
/// <code>
/// BAR 0, 1 MiB; 4-byte accesses below 0x80, 4 or 8 from there
///  00 RO  identification 0x010000ED       60 WO  raise these interrupt status bits
///  04 RW  reads back inverted             64 WO  acknowledge them
///  08 RW  factorial, in and out           80 RW  DMA source
///  20 RW  bit 0 computing, bit 7 irq      88 RW  DMA destination
///  24 RO  interrupt status                90 RW  DMA byte count
///                                         98 RW  bit 0 run, bit 1 to memory, bit 2 irq
/// </code>
/// The buffer is addressed as 0x40000 to 0x40FFF in source or destination; it is not in the BAR.
/// </summary>
/// <remarks>
/// QEMU's "EDU device" page. Its DMA reports no error: a refused page leaves memory alone and reads as zeros. A range
/// outside the buffer, which is undefined there, moves nothing here. Without MSI its pin is up as long as a status
/// bit is set; the bits can be polled too.
/// </remarks>
public sealed class EduModel : PciDevice
{
    private const uint Identification = 0x0100_00ED;
    private const uint StatusComputing = 0x01;
    private const uint StatusInterrupt = 0x80;
    private const uint FactorialInterrupt = 0x001;
    private const uint DmaInterrupt = 0x100;
    private const ulong CommandRun = 1;
    private const ulong CommandToMemory = 2;
    private const ulong CommandInterrupt = 4;
    private const ulong BufferStart = 0x4_0000;
    private const int BufferSize = 0x1000;
    private const ulong WideFrom = 0x80;

    private readonly Lock _lock = new();
    private readonly EduOptions _options;
    private readonly byte[] _buffer = new byte[BufferSize];
    private uint _inverted;
    private uint _factorial;
    private uint _status;
    private uint _interruptStatus;
    private ulong _source;
    private ulong _destination;
    private ulong _count;
    private ulong _command;
    private long _due;

    /// <summary>An edu device, not plugged in yet.</summary>
    public EduModel(EduOptions? options = null)
        : base("edu", new(0x1234, 0x11E8, 0x00_FF_00, Revision: 0x10), express: false)
    {
        _options = options ?? new();
        AddBar(0, 1 << 20);
        AddPin();
        AddMsi();
    }

    /// <inheritdoc/>
    public override ulong ReadBar(int bar, ulong offset, int size)
    {
        if (size < 4) { return 0; }
        if (size == 8 && offset < WideFrom) { return ulong.MaxValue; }
        lock (_lock)
        {
            return offset switch
            {
                0x00 => Identification,
                0x04 => _inverted,
                0x08 => _factorial,
                0x20 => _status,
                0x24 => _interruptStatus,
                0x80 => _source,
                0x88 => _destination,
                0x90 => _count,
                0x98 => _command,
                _ => ulong.MaxValue,
            };
        }
    }

    /// <inheritdoc/>
    public override void WriteBar(int bar, ulong offset, int size, ulong value)
    {
        if (size < 4 || (size == 8 && offset < WideFrom)) { return; }
        bool raise = false;
        lock (_lock)
        {
            bool idle = (_command & CommandRun) == 0;
            switch (offset)
            {
                case 0x04: _inverted = ~(uint)value; break;
                case 0x08 when (_status & StatusComputing) == 0:
                    _factorial = (uint)value;
                    _status |= StatusComputing;
                    Wake();
                    break;
                case 0x20: _status = (_status & ~StatusInterrupt) | ((uint)value & StatusInterrupt); break;
                case 0x60: raise = RaiseStatus((uint)value); break;
                case 0x64: AcknowledgeStatus((uint)value); break;
                case 0x80 when idle: _source = value; break;
                case 0x88 when idle: _destination = value; break;
                case 0x90 when idle: _count = value; break;
                case 0x98 when idle && (value & CommandRun) != 0: Start(value); break;
                default: break;
            }
        }
        if (raise) { RaiseMsi(); }
    }

    /// <inheritdoc/>
    public override bool Step() => ComputeFactorial() | RunDma();

    /// <inheritdoc/>
    public override void Reset()
    {
        lock (_lock)
        {
            (_inverted, _factorial, _status, _interruptStatus) = (0, 0, 0, 0);
            (_source, _destination, _count, _command) = (0, 0, 0, 0);
        }
    }

    /// <summary>
    /// Under the lock. Whether a message is to be sent, once outside it; without MSI the pin goes up instead.
    /// </summary>
    private bool RaiseStatus(uint bits)
    {
        _interruptStatus |= bits;
        if (_interruptStatus == 0) { return false; }
        if (IsMsiEnabled) { return true; }
        SetPin(true);
        return false;
    }

    private void AcknowledgeStatus(uint bits)
    {
        _interruptStatus &= ~bits;
        if (_interruptStatus == 0) { SetPin(false); }
    }

    private void Start(ulong command)
    {
        _command = command;
        _due = Clock.Nanoseconds + _options.DmaDelayNanoseconds;
        if (_options.DmaDelayNanoseconds > 0) { WakeAfter(_options.DmaDelayNanoseconds); } else { Wake(); }
    }

    private bool ComputeFactorial()
    {
        uint value;
        lock (_lock)
        {
            if ((_status & StatusComputing) == 0) { return false; }
            value = _factorial;
        }
        // From 34! on the product is zero in 32 bits, and stays so: the loop is short whatever was written.
        uint product = 1;
        for (; value > 0 && product != 0; value--) { product *= value; }
        bool raise;
        lock (_lock)
        {
            _factorial = product;
            _status &= ~StatusComputing;
            raise = (_status & StatusInterrupt) != 0 && RaiseStatus(FactorialInterrupt);
        }
        if (raise) { RaiseMsi(); }
        return true;
    }

    private bool RunDma()
    {
        ulong command, source, destination, count;
        lock (_lock)
        {
            if ((_command & CommandRun) == 0 || Clock.Nanoseconds < _due) { return false; }
            (command, source, destination, count) = (_command, _source, _destination, _count);
        }
        // Outside the lock: a processor may read registers while the transfer runs, and sees the run bit.
        bool toMemory = (command & CommandToMemory) != 0;
        ulong inside = (toMemory ? source : destination) - BufferStart;
        if (inside <= BufferSize && count <= BufferSize - inside)
        {
            Transfer(
                toMemory,
                new((toMemory ? destination : source) & _options.DmaMask),
                _buffer.AsSpan((int)inside, (int)count));
        }
        bool raise;
        lock (_lock)
        {
            _command &= ~CommandRun;
            raise = (command & CommandInterrupt) != 0 && RaiseStatus(DmaInterrupt);
        }
        if (raise) { RaiseMsi(); }
        return true;
    }

    /// <summary>
    /// Page by page, each on its own: a refused page does not stop those after it, and reads as zeros.
    /// </summary>
    private void Transfer(bool toMemory, LogicalAddress address, Span<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            Span<byte> piece = bytes[..Math.Min(bytes.Length, BufferSize - (int)address.OffsetIn(MachineMap.PageLog2))];
            if (toMemory) { Dma.Write(address, piece); }
            else if (Dma.Read(address, piece) != DmaStatus.Completed) { piece.Clear(); }
            bytes = bytes[piece.Length..];
            address += (ulong)piece.Length;
        }
    }
}
