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
        if (!_machine.Memory.TryRead(address, bytes[..size])) { Read(address, bytes[..size]); }
        return BitConverter.ToUInt64(bytes);
    }

    public void Write(PhysicalAddress address, int size, ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BitConverter.TryWriteBytes(bytes, value);
        if (!_machine.Memory.TryWrite(address, bytes[..size])) { Write(address, bytes[..size]); }
    }

    public void Read(PhysicalAddress address, Span<byte> destination)
    {
        while (!destination.IsEmpty)
        {
            BusPart part = Find(address, destination.Length, out int skipped);
            Span<byte> here = destination[..((int)part.Length - skipped)];
            if (part.Registers is { } registers) { Read(registers, (uint)skipped, here); }
            else if (!part.IsMemory || !_machine.Memory.TryRead(address, here)) { here.Clear(); }
            destination = destination[here.Length..];
            address += (ulong)here.Length;
        }
    }

    public void Write(PhysicalAddress address, ReadOnlySpan<byte> source)
    {
        while (!source.IsEmpty)
        {
            BusPart part = Find(address, source.Length, out int skipped);
            ReadOnlySpan<byte> here = source[..((int)part.Length - skipped)];
            if (part.Registers is { } registers) { Write(registers, (uint)skipped, here); }
            else if (part.IsMemory) { _machine.Memory.TryWrite(address, here); }
            source = source[here.Length..];
            address += (ulong)here.Length;
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

    /// <summary>A system reset, and what it gives the devices to do.</summary>
    public void Reset()
    {
        _machine.Reset();
        Settle();
    }

    private void Settle() => _execution.RunReady(MostSteps);

    /// <summary>
    /// Who answers from the last multiple of 8 on, so that what is aligned in a window is aligned on the bus. All there
    /// is on the bus begins and ends at multiples of 8.
    /// </summary>
    private BusPart Find(PhysicalAddress address, int length, out int skipped)
    {
        skipped = (int)address.OffsetIn(3);
        return _machine.FindOnBus(address.AlignDown(3), (uint)(length + skipped));
    }

    /// <summary>The bus cuts what is no access of a register into pieces that are, the widest that fit.</summary>
    private void Read(RegisterWindow registers, uint offset, Span<byte> destination)
    {
        while (!destination.IsEmpty)
        {
            int size = Piece(offset, destination.Length);
            ulong word = size switch
            {
                1 => registers.Read8(offset),
                2 => registers.Read16(offset),
                4 => registers.Read32(offset),
                _ => registers.Read64(offset),
            };
            for (int i = 0; i < size; i++) { destination[i] = (byte)(word >> (8 * i)); }
            destination = destination[size..];
            offset += (uint)size;
            Settle();
        }
    }

    private void Write(RegisterWindow registers, uint offset, ReadOnlySpan<byte> source)
    {
        while (!source.IsEmpty)
        {
            int size = Piece(offset, source.Length);
            ulong word = 0;
            for (int i = 0; i < size; i++) { word |= (ulong)source[i] << (8 * i); }
            switch (size)
            {
                case 1: registers.Write8(offset, (byte)word); break;
                case 2: registers.Write16(offset, (ushort)word); break;
                case 4: registers.Write32(offset, (uint)word); break;
                default: registers.Write64(offset, word); break;
            }
            source = source[size..];
            offset += (uint)size;
            Settle();
        }
    }

    private static int Piece(uint offset, int length)
    {
        int size = 8;
        while (size > length || (offset & (uint)(size - 1)) != 0) { size >>= 1; }
        return size;
    }
}
