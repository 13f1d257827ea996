using System.Diagnostics;

namespace Sluice.Iommu;

/// <summary>Waits until every DMA that may have used a dropped cache entry is over.</summary>
/// <remarks>
/// Call it after the caches were cleared. A port that is idle when looked at is done with: its next DMA begins with a
/// full fence and finds the caches cleared. A port in flight is waited for until its sequence moves on.
/// </remarks>
internal sealed class DrainBarrier(string unit, TimeSpan limit)
{
    private const int ShortTurns = 256;
    private readonly Lock _gate = new();
    private TranslationPort[] _ports = [];
    private long _delayed;
    private long _timedOut;

    internal ReadOnlySpan<TranslationPort> Ports => Volatile.Read(ref _ports);

    internal long Delayed => Volatile.Read(ref _delayed);

    internal long TimedOut => Volatile.Read(ref _timedOut);

    internal TranslationPort Connect(string name)
    {
        lock (_gate)
        {
            TranslationPort port = new(name.Length != 0 ? name : $"{_ports.Length}");
            Volatile.Write(ref _ports, [.. _ports, port]);
            return port;
        }
    }

    /// <exception cref="InvalidOperationException">
    /// The caller is inside a DMA itself, or a DMA did not end in time. Both are mistakes of a device model.
    /// </exception>
    internal void Wait()
    {
        Interlocked.MemoryBarrier();
        foreach (TranslationPort port in Ports)
        {
            long sequence = port.Sequence;
            if ((sequence & 1) != 0) { WaitFor(port, sequence); }
        }
    }

    private void WaitFor(TranslationPort port, long sequence)
    {
        if (port.Thread == Environment.CurrentManagedThreadId)
        {
            throw new InvalidOperationException(
                $"port {port.Name} wrote a register of unit {unit} inside its own DMA, which the unit must wait for");
        }
        Interlocked.Increment(ref _delayed);
        // A section is one page at most, a tenth of a microsecond: yielding at once would cost ten times what it waits
        // for.
        for (int turn = 0; turn < ShortTurns; turn++)
        {
            if (port.Sequence != sequence) { return; }
            Thread.SpinWait(1);
        }
        long start = Stopwatch.GetTimestamp();
        SpinWait spin = default;
        while (port.Sequence == sequence)
        {
            spin.SpinOnce(sleep1Threshold: -1);
            if (Stopwatch.GetElapsedTime(start) < limit) { continue; }
            Interlocked.Increment(ref _timedOut);
            throw new InvalidOperationException(
                $"a DMA of port {port.Name} did not end in {limit.TotalSeconds:0.###} s; "
                + $"an invalidation of unit {unit} waits for it");
        }
    }
}
