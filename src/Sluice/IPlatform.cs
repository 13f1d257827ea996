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

    /// <summary>The configuration space of its PCI functions; null on a machine without PCI.</summary>
    IPciConfiguration? Pci { get; }

    /// <summary>
    /// Where BARs that have no address yet may be placed; null where firmware or the host places them all.
    /// </summary>
    PhysicalRange? BarWindow => null;

    /// <summary>
    /// Where a device's 4-byte write is an interrupt request and never reaches memory: never to be handed out as
    /// logical addresses. Null on a machine that has no such window: there every address is like every other.
    /// </summary>
    LogicalRange? InterruptWindow { get; }

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
    /// <exception cref="InvalidOperationException">All vectors are taken, or the machine takes no messages.</exception>
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
    /// callback is waited for. It never runs twice at once. No timer waits for another one's callback, however long
    /// that takes; on a machine of one thread the others run inside its waits (<see cref="Relax"/>).
    /// </summary>
    IDisposable StartTimer(string name, long periodNanoseconds, Action callback);

    /// <summary>
    /// Runs <paramref name="work"/> once, soon, and in nobody's call: on the thread pool, or in a later step of a machine
    /// of one thread, whose order its seed alone decides. It must not throw. Safe from any thread.
    /// </summary>
    /// <param name="work">What to run; the same object may be posted again once it runs.</param>
    void Post(IThreadPoolWorkItem work) => ThreadPool.UnsafeQueueUserWorkItem(work, preferLocal: false);
}

/// <summary>
/// The end of a bounded wait. Use: <c>for (var limit = Deadline.In(clock, ns); !done; limit.Relax()) if
/// (limit.HasPassed) …</c>
/// </summary>
/// <remarks>
/// The wait ends whatever the clock does. One that stands still, or goes back, ends it after
/// <see cref="MostIdleTurns"/> turns in which no time passed. One that jumps ahead does not end it at once: a turn
/// counts for half of it at most, so that who waits looks once more. Count turns in one variable: a copy counts by
/// itself.
/// </remarks>
public struct Deadline
{
    /// <summary>
    /// Turns in a row without time passing, after which a wait is over: more than a turn's pause fits into the coarsest
    /// tick of a clock, 16 ms, and a fraction of a second.
    /// </summary>
    public const int MostIdleTurns = 1 << 20;

    private readonly IPlatformClock _clock;
    private readonly long _mostPerTurn;
    private long _left;
    private long _latest;
    private int _idleTurns;

    private Deadline(IPlatformClock clock, long nanoseconds)
    {
        (_clock, _left, _latest) = (clock, nanoseconds, clock.Nanoseconds);
        _mostPerTurn = nanoseconds / 2 + 1;
    }

    /// <summary>A deadline <paramref name="nanoseconds"/> from now; at once when that is 0 or less.</summary>
    public static Deadline In(IPlatformClock clock, long nanoseconds)
    {
        ArgumentNullException.ThrowIfNull(clock);
        return new(clock, nanoseconds);
    }

    /// <summary>Whether the time was over at the last turn.</summary>
    public readonly bool HasPassed => _left <= 0 || _idleTurns >= MostIdleTurns;

    /// <summary>One turn of the polling loop.</summary>
    public void Relax()
    {
        _clock.Relax();
        long now = _clock.Nanoseconds;
        if (now <= _latest)
        {
            // From where it went back to, time may pass again.
            (_latest, _idleTurns) = (now, _idleTurns + 1);
            return;
        }
        // Further apart than any number says: as far as a turn counts.
        long passed = now - _latest;
        _left -= passed < 0 ? _mostPerTurn : Math.Min(passed, _mostPerTurn);
        (_latest, _idleTurns) = (now, 0);
    }
}
