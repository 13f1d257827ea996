namespace Sluice.Promises.Tests;

/// <summary>Counts what the operating-system side heard of refused DMA.</summary>
internal sealed class FaultCounter : IFaultSink
{
    private long _faults;
    private long _lost;

    public long Faults => Volatile.Read(ref _faults);

    public long Lost => Volatile.Read(ref _lost);

    public void OnFault(in DmaFault fault) => Interlocked.Increment(ref _faults);

    public void OnFaultsLost(ulong atLeast) => Interlocked.Add(ref _lost, (long)atLeast);
}
