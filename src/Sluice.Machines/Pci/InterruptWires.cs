namespace Sluice.Machines;

/// <summary>
/// The interrupt wires of a q35: what functions assert, ORed at the 24 inputs where its I/O APIC would be. Nothing here
/// takes interrupts from wires (messages are what drivers use); who serves the machine to others listens. Safe from any
/// thread.
/// </summary>
internal sealed class InterruptWires
{
    public const int Inputs = 24;
    private readonly Lock _lock = new();
    private readonly int[] _asserting = new int[Inputs];

    /// <summary>Told of each input that went up or down, in order, under the lock.</summary>
    public Action<int, bool>? Changed { get; set; }

    /// <summary>
    /// The input at which pin 1 to 4 (INTA to INTD) of a function of the root bus ends: seen on QEMU 11, slot by slot.
    /// </summary>
    /// <remarks>
    /// PIRQA to PIRQH are inputs 16 to 23. Slots below 25 are swizzled over PIRQE to PIRQH; ICH9's own slots have route
    /// registers (D25IR to D31IR, at their reset values here), slot 30 is wired straight.
    /// </remarks>
    public static int Route(int slot, int pin) => slot switch
    {
        < 25 => 20 + (slot + pin - 1) % 4,
        30 => 20 + pin - 1,
        _ => 16 + pin - 1,
    };

    public bool IsRaised(int input)
    {
        lock (_lock) { return _asserting[input] != 0; }
    }

    /// <summary>One function begins or ends to assert an input.</summary>
    public void Drive(int input, bool isAsserted)
    {
        lock (_lock)
        {
            int before = _asserting[input];
            _asserting[input] += isAsserted ? 1 : -1;
            if (before == 0 || _asserting[input] == 0) { Changed?.Invoke(input, isAsserted); }
        }
    }
}
