using System.Diagnostics.CodeAnalysis;

namespace Sluice.Dma;

/// <summary>
/// Tells a driver, once, that its device is blocked. What the driver registered runs in nobody's call: however long it
/// takes, it holds up nobody else.
/// </summary>
/// <remarks>Safe from any thread.</remarks>
[SuppressMessage("Reliability", "CA1001", Justification = "A source that nobody times or waits on holds nothing.")]
internal sealed class BlockedSignal(IPlatformClock clock, SubscriberFailures failures)
{
    private readonly CancellationTokenSource _source = new();
    private int _told;

    /// <summary>Cancelled when it was told.</summary>
    internal CancellationToken Token => _source.Token;

    /// <summary>Tells, soon, and once.</summary>
    internal void Tell()
    {
        if (Interlocked.Exchange(ref _told, 1) == 0) { clock.Post(new PostedAction(_source.Cancel, failures)); }
    }
}
