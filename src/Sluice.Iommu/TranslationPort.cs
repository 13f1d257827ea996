using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Sluice.Iommu;

/// <summary>
/// One agent's way into a remapping unit: it tells the unit when a DMA of the agent is in flight, and counts what
/// happened. Get it from <see cref="IRemappingUnit.Connect"/>. Used by one thread at a time; the counters may be read
/// by any thread.
/// </summary>
/// <remarks>
/// The in-flight word and the counters fill a cache line of their own, which only the agent writes: two agents never
/// share a written line, and a draining unit only reads it.
/// </remarks>
[StructLayout(LayoutKind.Explicit, Size = 192)]
public sealed class TranslationPort
{
    // Odd while a DMA is in flight. A draining unit waits for the value to change, not for it to become even:
    // a later DMA began after the caches were cleared and need not be waited for.
    [FieldOffset(64)] private long _sequence;
    [FieldOffset(72)] private long _hits;
    [FieldOffset(80)] private long _misses;
    [FieldOffset(88)] private long _refused;
    [FieldOffset(96)] private int _thread;
    [FieldOffset(0)] private readonly string _name;

    internal TranslationPort(string name) => _name = name;

    /// <summary>The agent, for messages.</summary>
    public string Name => _name;

    /// <summary>Translations answered by the unit's caches.</summary>
    public long Hits => Volatile.Read(ref _hits);

    /// <summary>Translations that walked tables, whether or not they found anything.</summary>
    public long Misses => Volatile.Read(ref _misses);

    /// <summary>Translations and interrupt messages that were refused.</summary>
    public long Refused => Volatile.Read(ref _refused);

    /// <summary>Whether a DMA is in flight.</summary>
    public bool IsInFlight => (Sequence & 1) != 0;

    /// <summary>
    /// Begins a DMA that ends with the scope, however that is left: <c>using (port.Begin()) { … }</c>. Not nested.
    /// </summary>
    public DmaScope Begin() => new(this);

    /// <summary>
    /// Begins a DMA that <see cref="Exit"/> ends; until then the unit's invalidations wait. Not nested.
    /// </summary>
    public void Enter()
    {
        Debug.Assert(!IsInFlight, "a DMA of this port is already in flight");
        _thread = Environment.CurrentManagedThreadId;
        // The full fence orders "in flight" before every cache lookup of the DMA. A unit clears its caches, fences, and
        // then looks at the ports: either the lookup misses the dropped entry, or the unit sees the DMA and waits.
        Interlocked.Exchange(ref _sequence, _sequence + 1);
    }

    /// <summary>Ends the DMA: all its loads and stores are done before anybody can see that it is over.</summary>
    public void Exit()
    {
        Debug.Assert(IsInFlight, "no DMA of this port is in flight");
        Volatile.Write(ref _sequence, _sequence + 1);
    }

    internal long Sequence => Volatile.Read(ref _sequence);

    /// <summary>
    /// The thread of the DMA in flight, for messages and to notice a unit that would wait for itself.
    /// </summary>
    internal int Thread => Volatile.Read(ref _thread);

    internal void CountHit() => _hits++;

    internal void CountMiss() => _misses++;

    internal void CountRefusal() => _refused++;

    /// <summary>Name and counters.</summary>
    public override string ToString() => $"port {_name}: {Hits} hits, {Misses} misses, {Refused} refused";
}
