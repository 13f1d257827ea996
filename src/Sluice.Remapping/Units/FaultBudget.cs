namespace Sluice.Remapping.Units;

/// <summary>
/// How many faults each device may still raise: a bucket of tokens per requester, refilled with time. Found by bus, so
/// nothing is searched and nothing allocated after a bus's first fault. Not safe from several threads.
/// </summary>
internal sealed class FaultBudget(int burst, int perSecond)
{
    private const long NanosecondsPerSecond = 1_000_000_000;
    private readonly Bucket[]?[] _buses = new Bucket[256][];

    /// <summary>Takes a token of <paramref name="device"/>; false when it has none left.</summary>
    public bool TrySpend(RequesterId device, long now)
    {
        ref Bucket bucket = ref (_buses[device.Bus] ??= new Bucket[256])[device.DeviceFunction];
        long interval = NanosecondsPerSecond / perSecond;
        // Tokens are kept as the time at which the bucket was last full, moved forward by what was spent.
        long earliest = now - burst * interval;
        if (bucket.PaidUntil < earliest || !bucket.Known) { bucket = new(earliest, Known: true, bucket.Storms); }
        if (bucket.PaidUntil + interval > now) { return false; }
        bucket = bucket with { PaidUntil = bucket.PaidUntil + interval };
        return true;
    }

    /// <summary>Counts a storm of a device that spent all it had; how many there were.</summary>
    public int CountStorm(RequesterId device) => ++_buses[device.Bus]![device.DeviceFunction].Storms;

    private record struct Bucket(long PaidUntil, bool Known, int Storms);
}
