using Sluice.Formats.Vtd;

namespace Sluice.Remapping.Vtd;

/// <summary>
/// Commands to one unit through its registers, each confirmed by the unit within a bounded time. Safe from any thread;
/// one at a time.
/// </summary>
/// <remarks>
/// VT-d specification 11.4.4 and 11.4.6: software writes the persistent status bits with one bit changed, then polls.
/// </remarks>
internal sealed class GlobalCommands(
    RegisterWindow registers, IPlatformClock clock, long waitNanoseconds, uint iotlbOffset)
{
    private readonly Lock _one = new();

    /// <summary>The global status register.</summary>
    public uint Status => registers.Read32(VtdRegister.GlobalStatus);

    /// <summary>Whether <paramref name="bit"/> is set in the global status.</summary>
    public bool Has(uint bit) => (Status & bit) != 0;

    /// <summary>Sets a persistent bit, or gives a one-shot command whose status bit says "done".</summary>
    public bool TrySet(uint bit) => TryCommand(bit, set: true, done: true);

    /// <summary>Clears a persistent bit.</summary>
    public bool TryClear(uint bit) => TryCommand(bit, set: false, done: false);

    /// <summary>Flushes the write buffer of a unit that has one (RWBF); its status bit says "busy".</summary>
    public bool TryFlushWriteBuffer() => TryCommand(VtdGlobal.WriteBufferFlush, set: true, done: false);

    /// <summary>Drops everything from both caches through registers: only while the queue is off.</summary>
    public bool TryInvalidateAll()
    {
        lock (_one)
        {
            registers.Write64(VtdRegister.ContextCommand, VtdContextCommand.For(InvalidationGranularity.Global).Word);
            bool contexts = TryAwaitClear(VtdRegister.ContextCommand, VtdContextCommand.Busy);
            registers.Write64(iotlbOffset, VtdIotlbCommand.For(InvalidationGranularity.Global).Word);
            return TryAwaitClear(iotlbOffset, VtdIotlbCommand.Busy) && contexts;
        }
    }

    /// <summary>
    /// Ends the protection of fixed memory ranges that firmware may have set up; tables protect memory from now on.
    /// </summary>
    public bool TryClearProtectedMemory()
    {
        const ulong RegionStatus = 1;
        if ((registers.Read32(VtdRegister.ProtectedMemoryEnable) & RegionStatus) == 0) { return true; }
        registers.Write32(VtdRegister.ProtectedMemoryEnable, 0);
        for (Deadline limit = Deadline.In(clock, waitNanoseconds); !limit.HasPassed; limit.Relax())
        {
            if ((registers.Read32(VtdRegister.ProtectedMemoryEnable) & RegionStatus) == 0) { return true; }
        }
        return false;
    }

    private bool TryAwaitClear(uint offset, ulong busy)
    {
        Deadline limit = Deadline.In(clock, waitNanoseconds);
        for (; (registers.Read64(offset) & busy) != 0; limit.Relax())
        {
            if (limit.HasPassed) { return false; }
        }
        return true;
    }

    private bool TryCommand(uint bit, bool set, bool done)
    {
        lock (_one)
        {
            uint persistent = Status & VtdGlobal.Persistent;
            registers.Write32(VtdRegister.GlobalCommand, set ? persistent | bit : persistent & ~bit);
            for (Deadline limit = Deadline.In(clock, waitNanoseconds); Has(bit) != done; limit.Relax())
            {
                if (limit.HasPassed) { return false; }
            }
            return true;
        }
    }
}
