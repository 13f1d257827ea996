namespace Sluice;

/// <summary>
/// What the operating-system side needs from the machine below it, and all it may use: simulated, QEMU's or real.
/// Nothing above asks which it is.
/// </summary>
public interface IPlatform
{
    /// <summary>The machine's memory.</summary>
    PhysicalMemory Memory { get; }

    /// <summary>The page frames of that memory and what each is used for.</summary>
    IFrameAllocator Frames { get; }

    /// <summary>Time and bounded waiting.</summary>
    IPlatformClock Clock { get; }

    /// <summary>The port space.</summary>
    IPortIo Ports { get; }

    /// <summary>
    /// Address ranges that a bridge or unit claims on the bus, never to be handed out as logical addresses.
    /// </summary>
    IReadOnlyList<LogicalRange> BusWindows { get; }

    /// <summary>
    /// Where the root pointer (RSDP) of the firmware's tables lies, if the host knows: a loader that started from UEFI
    /// was told. Null: it is searched for where a PC's firmware puts it.
    /// </summary>
    PhysicalAddress? FirmwareTables => null;

    /// <summary>Registers at a physical address.</summary>
    /// <exception cref="ArgumentOutOfRangeException">No device answers there.</exception>
    RegisterWindow MapRegisters(PhysicalAddress first, uint length);

    /// <summary>
    /// Takes a free interrupt vector. <paramref name="handler"/> runs on the platform's interrupt thread, never twice
    /// at once, and once more after the last message that arrived while it ran. It must not block on another interrupt.
    /// </summary>
    /// <exception cref="InvalidOperationException">All vectors are taken.</exception>
    IInterruptLine ConnectInterrupt(string name, Action handler);
}

/// <summary>Time, on a machine whose time may be real, virtual or stepped by a test.</summary>
public interface IPlatformClock
{
    /// <summary>Nanoseconds since an arbitrary start; never goes back.</summary>
    long Nanoseconds { get; }

    /// <summary>One turn of a polling loop: a pause on real time, a step of the machine on virtual time.</summary>
    void Relax();

    /// <summary>
    /// Runs <paramref name="callback"/> about every <paramref name="periodNanoseconds"/> until disposed; a running
    /// callback is waited for.
    /// </summary>
    IDisposable StartTimer(string name, long periodNanoseconds, Action callback);
}

/// <summary>
/// The end of a bounded wait. Use: <c>for (var limit = Deadline.In(clock, ns); !done; limit.Relax()) if
/// (limit.HasPassed) …</c>
/// </summary>
public readonly struct Deadline
{
    private readonly IPlatformClock _clock;
    private readonly long _end;

    private Deadline(IPlatformClock clock, long end) => (_clock, _end) = (clock, end);

    /// <summary>A deadline <paramref name="nanoseconds"/> from now.</summary>
    public static Deadline In(IPlatformClock clock, long nanoseconds) => new(clock, clock.Nanoseconds + nanoseconds);

    /// <summary>Whether the time is over.</summary>
    public bool HasPassed => _clock.Nanoseconds >= _end;

    /// <summary>One turn of the polling loop.</summary>
    public void Relax() => _clock.Relax();
}
