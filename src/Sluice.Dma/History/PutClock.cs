using System.Runtime.CompilerServices;

namespace Sluice.Dma;

/// <summary>
/// Times for mappings given back. Reading a clock costs a tenth of a whole get and put, so where puts follow each other
/// within a microsecond only every eighth reads it, and the others know that they are no older than that reading.
/// </summary>
/// <remarks>
/// Threads may race here: all a race can do is return an older reading, which is still a lower bound. Virtual clocks
/// that stand still are read every time.
/// </remarks>
internal struct PutClock
{
    private const int Skip = 7;
    private const long FastNanoseconds = 1_000;
    private long _last;
    private int _skip;

    // Puts from the last reading to the next.
    private int _puts;

    /// <summary>A time not after now; <paramref name="exact"/> when it is now.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal long Read(IPlatformClock clock, out bool exact)
    {
        int skip = _skip;
        if (skip > 0)
        {
            _skip = skip - 1;
            exact = false;
            return Volatile.Read(ref _last);
        }
        exact = true;
        return ReadNow(clock);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private long ReadNow(IPlatformClock clock)
    {
        long now = clock.Nanoseconds;
        long passed = now - _last;
        Volatile.Write(ref _last, now);
        bool fast = passed > 0 && passed < FastNanoseconds * _puts;
        _skip = fast ? Skip : 0;
        _puts = _skip + 1;
        return now;
    }
}
