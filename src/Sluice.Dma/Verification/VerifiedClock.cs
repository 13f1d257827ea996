namespace Sluice.Dma;

/// <summary>
/// Reads the machine's clock and sees when it misbehaves: ages, timeouts and delays all rest on it. Safe from any
/// thread.
/// </summary>
internal sealed class VerifiedClock(IPlatformClock clock)
{
    // Virtual clocks may be stepped; nobody steps one by a day between two calls of a driver.
    internal const long LeapNanoseconds = 24L * 3600 * 1_000_000_000;

    private long _last = long.MinValue;
    private long _ahead = long.MinValue;

    /// <summary>The time, and the rule that it breaks, if any.</summary>
    internal long Read(out VerificationRule? broken)
    {
        // Read before the clock: whoever stored it had its reading earlier.
        long last = Volatile.Read(ref _last);
        long now = clock.Nanoseconds;
        long ahead = now - Environment.TickCount64 * 1_000_000;
        long before = Interlocked.Exchange(ref _ahead, ahead);
        broken = now < last ? VerificationRule.ClockWentBack
            : before != long.MinValue && ahead - before > LeapNanoseconds ? VerificationRule.ClockLeapt
            : null;
        Volatile.Write(ref _last, now);
        return now;
    }
}
