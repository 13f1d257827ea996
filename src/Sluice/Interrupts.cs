namespace Sluice;

/// <summary>
/// A message-signalled interrupt: a 32-bit write of <paramref name="Data"/> to <paramref name="Address"/>.
/// </summary>
/// <param name="Address">Where the platform takes interrupts, in its window if it has one
/// (<see cref="IPlatform.InterruptWindow"/>); a bus address, hence logical.</param>
/// <param name="Data">The data word; on x86 the vector is in its low byte.</param>
public readonly record struct MsiMessage(LogicalAddress Address, uint Data)
{
    /// <summary>The vector, without interrupt remapping: the low byte of the data.</summary>
    public byte Vector => (byte)Data;
}

/// <summary>
/// Where messages arrive on the processor side. Never runs a handler inside the call, so silicon may call it anywhere.
/// </summary>
public interface IInterruptSink
{
    /// <summary>
    /// Latches the interrupt; the handler runs later, on a thread of the platform. Equal pending messages merge.
    /// </summary>
    void Deliver(MsiMessage message);
}

/// <summary>
/// A vector that the operating-system side owns. Dispose to give it back; a running handler is waited for.
/// </summary>
public interface IInterruptLine : IDisposable
{
    /// <summary>What to program into the device so that the handler runs.</summary>
    MsiMessage Message { get; }
}
