namespace Sluice.Machines;

/// <summary>A page of the kernel area that is not as the kernel left it.</summary>
/// <param name="Page">The page.</param>
/// <param name="Area">Whose page: <c>code</c>, <c>interrupt table</c> or <c>system-call table</c>.</param>
/// <param name="FirstByte">The first changed byte in the page.</param>
/// <param name="ChangedBytes">How many differ.</param>
public readonly record struct KernelDamage(PhysicalAddress Page, string Area, int FirstByte, int ChangedBytes)
{
    /// <summary>As <c>interrupt table at 0x5000: 8 bytes changed from byte 0x300 on</c>.</summary>
    public override string ToString() => $"{Area} at {Page}: {ChangedBytes} bytes changed from byte 0x{FirstByte:X} on";
}

/// <summary>The kernel's entry points in the system-call table.</summary>
public enum KernelCall : byte
{
    /// <summary>Called before each timer's callback.</summary>
    Timer,

    /// <summary>Called before each interrupt handler.</summary>
    Interrupt,

    /// <summary>Called by whoever wants to know whether the table still works.</summary>
    Probe,
}
