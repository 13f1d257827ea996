namespace Sluice.Dma;

/// <summary>What the platform runs in nobody's call; what it throws is kept.</summary>
internal sealed class PostedAction(Action action, SubscriberFailures failures) : IThreadPoolWorkItem
{
    void IThreadPoolWorkItem.Execute()
    {
        try { action(); }
        catch (Exception e) { failures.Add(e); }
    }
}
