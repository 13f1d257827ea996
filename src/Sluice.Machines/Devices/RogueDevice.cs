namespace Sluice.Machines;

/// <summary>
/// A function that does on the bus whatever its <see cref="PciDevice.Port"/> is told: any requester id, address,
/// length, access, any message, also after it was told to stop. It has a BAR of scratch registers and an MSI
/// capability, and no will of its own.
/// </summary>
/// <remarks>The port is used by one thread at a time: the one that drives the device.</remarks>
public sealed class RogueDevice : PciDevice
{
    private const int Registers = 512;
    private readonly ulong[] _registers = new ulong[Registers];

    /// <summary>A rogue, not plugged in yet.</summary>
    public RogueDevice()
        : base("rogue", new(0x1234, 0x0BAD, 0x00_FF_00), express: true)
    {
        AddBar(0, Registers * sizeof(ulong));
        AddMsi();
    }

    /// <summary>Sends its MSI message, as software programmed it.</summary>
    public void Interrupt() => RaiseMsi();

    /// <inheritdoc/>
    public override ulong ReadBar(int bar, ulong offset, int size) =>
        Volatile.Read(ref _registers[offset / sizeof(ulong)]) >> (int)(offset % sizeof(ulong) * 8);

    /// <inheritdoc/>
    public override void WriteBar(int bar, ulong offset, int size, ulong value)
    {
        int shift = (int)(offset % sizeof(ulong) * 8);
        ulong mask = (size == sizeof(ulong) ? ulong.MaxValue : (1UL << (size * 8)) - 1) << shift;
        ref ulong register = ref _registers[offset / sizeof(ulong)];
        Volatile.Write(ref register, (register & ~mask) | ((value << shift) & mask));
    }

    /// <inheritdoc/>
    public override bool Step() => false;
}
