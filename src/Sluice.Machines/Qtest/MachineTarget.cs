namespace Sluice.Machines.Qtest;

/// <summary>
/// The in-process machine as qtest sees a machine: time stands still between commands, and after each one devices work
/// until they have nothing left to do.
/// </summary>
internal sealed class MachineTarget : IQtestTarget
{
    // A device that always has more to do must not keep the client waiting for ever.
    private const int MostSteps = 100_000;
    private readonly Machine _machine;
    private readonly SeededExecution _execution;

    /// <exception cref="MachineException">The machine is not deterministic: its time cannot stand still.</exception>
    public MachineTarget(Machine machine)
    {
        _machine = machine;
        _execution = machine.Execution as SeededExecution
            ?? throw new MachineException(
                "a machine served over qtest must be deterministic: its clock moves only when told to");
    }

    public long Now => _execution.Nanoseconds;

    public long? NextTimer => _execution.NextTimer is var due && due == long.MaxValue ? null : due;

    public Action<int, bool>? WireChanged
    {
        get => _machine.Wires.Changed;
        set => _machine.Wires.Changed = value;
    }

    public ulong Read(PhysicalAddress address, int size)
    {
        Span<byte> bytes = stackalloc byte[8];
        bytes.Clear();
        if (_machine.Memory.TryRead(address, bytes[..size])) { return BitConverter.ToUInt64(bytes); }
        if (!IsAligned(address, size))
        {
            Read(address, bytes[..size]);
            return BitConverter.ToUInt64(bytes);
        }
        if (!TryMap(address, size, out RegisterWindow? window)) { return 0; }
        ulong value = size switch
        {
            1 => window.Read8(0),
            2 => window.Read16(0),
            4 => window.Read32(0),
            _ => window.Read64(0),
        };
        Settle();
        return value;
    }

    public void Write(PhysicalAddress address, int size, ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BitConverter.TryWriteBytes(bytes, value);
        if (_machine.Memory.TryWrite(address, bytes[..size])) { return; }
        if (!IsAligned(address, size))
        {
            Write(address, bytes[..size]);
            return;
        }
        if (!TryMap(address, size, out RegisterWindow? window)) { return; }
        switch (size)
        {
            case 1: window.Write8(0, (byte)value); break;
            case 2: window.Write16(0, (ushort)value); break;
            case 4: window.Write32(0, (uint)value); break;
            default: window.Write64(0, value); break;
        }
        Settle();
    }

    public void Read(PhysicalAddress address, Span<byte> destination)
    {
        if (_machine.Memory.TryRead(address, destination)) { return; }
        while (!destination.IsEmpty)
        {
            int size = Piece(address, destination.Length);
            ulong word = Read(address, size);
            for (int i = 0; i < size; i++) { destination[i] = (byte)(word >> (8 * i)); }
            destination = destination[size..];
            address += (ulong)size;
        }
    }

    public void Write(PhysicalAddress address, ReadOnlySpan<byte> source)
    {
        if (_machine.Memory.TryWrite(address, source)) { return; }
        while (!source.IsEmpty)
        {
            int size = Piece(address, source.Length);
            ulong word = 0;
            for (int i = 0; i < size; i++) { word |= (ulong)source[i] << (8 * i); }
            Write(address, size, word);
            source = source[size..];
            address += (ulong)size;
        }
    }

    public uint In(ushort port, int size) => size switch
    {
        1 => _machine.Ports.In8(port),
        2 => _machine.Ports.In16(port),
        _ => _machine.Ports.In32(port),
    };

    public void Out(ushort port, int size, uint value)
    {
        switch (size)
        {
            case 1: _machine.Ports.Out8(port, (byte)value); break;
            case 2: _machine.Ports.Out16(port, (ushort)value); break;
            default: _machine.Ports.Out32(port, value); break;
        }
        Settle();
    }

    public void AdvanceTo(long nanoseconds)
    {
        _execution.AdvanceTo(nanoseconds, MostSteps);
        Settle();
    }

    private void Settle() => _execution.RunReady(MostSteps);

    /// <summary>The bus cuts an access that is not aligned into pieces that are.</summary>
    private static bool IsAligned(PhysicalAddress address, int size) => (address.Value & ((ulong)size - 1)) == 0;

    private static int Piece(PhysicalAddress address, int length) =>
        length >= 4 && address.IsAligned(2) ? 4 : length >= 2 && address.IsAligned(1) ? 2 : 1;

    private bool TryMap(PhysicalAddress address, int size,
        [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out RegisterWindow? window)
    {
        window = null;
        try
        {
            window = _machine.MapRegisters(address, (uint)size);
            return true;
        }
        catch (ArgumentOutOfRangeException)
        {
            return false;
        }
    }
}
