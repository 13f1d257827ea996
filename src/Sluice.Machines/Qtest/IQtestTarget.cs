namespace Sluice.Machines.Qtest;

/// <summary>
/// A machine as <see cref="QtestServer"/> drives it. Called by one thread at a time. What it throws becomes a
/// <c>FAIL</c> line.
/// </summary>
internal interface IQtestTarget
{
    /// <summary>The virtual clock in nanoseconds.</summary>
    long Now { get; }

    /// <summary>
    /// Told of every interrupt wire that goes up or down, by its input of the I/O APIC, while a command runs.
    /// </summary>
    Action<int, bool>? WireChanged { get; set; }

    /// <summary>One access of 1, 2, 4 or 8 bytes on the processor's bus; zero where nothing answers.</summary>
    ulong Read(PhysicalAddress address, int size);

    /// <summary>One access of 1, 2, 4 or 8 bytes on the processor's bus; lost where nothing answers.</summary>
    void Write(PhysicalAddress address, int size, ulong value);

    /// <summary>Bytes from the processor's bus; zeros where nothing answers.</summary>
    void Read(PhysicalAddress address, Span<byte> destination);

    /// <summary>Bytes to the processor's bus; lost where nothing answers.</summary>
    void Write(PhysicalAddress address, ReadOnlySpan<byte> source);

    /// <summary>One port read of 1, 2 or 4 bytes; all ones where nothing answers, zero off a multiple of its
    /// size.</summary>
    uint In(ushort port, int size);

    /// <summary>One port write of 1, 2 or 4 bytes; lost off a multiple of its size.</summary>
    void Out(ushort port, int size, uint value);

    /// <summary>Moves the clock; timers fire on the way.</summary>
    void AdvanceTo(long nanoseconds);

    /// <summary>When the next timer is due; null when none is set.</summary>
    long? NextTimer { get; }
}
