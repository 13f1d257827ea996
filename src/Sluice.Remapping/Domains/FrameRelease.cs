namespace Sluice.Remapping;

/// <summary>
/// Keeps buffers that their owners gave back out of use while a device may still reach them through a deferred domain.
/// Which frames those are nobody asks: whatever is freed while any ring holds something waits until every ring has
/// flushed since, or was empty once. So the data path does nothing for it, and a frame waits for two periods of the
/// flush at most, or for a unit that is about to be given up. Safe from any thread.
/// </summary>
/// <remarks>
/// The allocator has the frames: those freed since the last turn, and those from before it. A turn comes when all that
/// was pending at the last one is out of reach, or in quarantine because no unit confirmed it. Locks are taken in the
/// order: a ring's, this one, the allocator's; the look from inside the allocator takes none.
/// </remarks>
internal sealed class FrameRelease(IFrameAllocator frames, Func<Domain[]> domains) : IFlushGate
{
    // Others go on freeing meanwhile; the rest is for the next flush or timer.
    private const int MostTurns = 3;
    private readonly Lock _one = new();
    private bool _begun;

    /// <inheritdoc/>
    public bool IsPending
    {
        get
        {
            foreach (Domain domain in domains())
            {
                if (domain.Deferred is { IsEmpty: false }) { return true; }
            }
            return false;
        }
    }

    /// <inheritdoc/>
    public void Flush()
    {
        // Once for what came before the last turn, once for what came since.
        for (int i = 0; i < 2; i++)
        {
            foreach (Domain domain in domains()) { domain.FlushNow(); }
            Advance();
        }
    }

    /// <summary>From now on frames wait. Before the first deferred domain.</summary>
    /// <exception cref="RemappingException">The platform's frames cannot.</exception>
    public void Begin()
    {
        if (_begun) { return; }
        try { frames.HoldFreed(this); }
        catch (Exception e) when (e is NotSupportedException or InvalidOperationException)
        {
            throw new RemappingException($"invalidations cannot be deferred on this machine: {e.Message}", e);
        }
        _begun = true;
    }

    /// <summary>No deferred domain is left: frames no longer wait.</summary>
    public void End()
    {
        if (!_begun) { return; }
        _begun = false;
        frames.HoldFreed(null);
    }

    /// <summary>After a flush, and now and then: frees what no longer waits for anything.</summary>
    public void Advance()
    {
        if (frames.HeldFrames == 0) { return; }
        lock (_one)
        {
            for (int i = 0; i < MostTurns && IsClean(); i++)
            {
                if (!frames.FreeHeld()) { return; }
                // After the allocator has told them from those to come: what lets a device reach them is in the rings.
                foreach (Domain domain in domains()) { domain.Deferred?.MarkPending(); }
            }
        }
    }

    private bool IsClean()
    {
        foreach (Domain domain in domains())
        {
            if (domain.Deferred is { IsClean: false }) { return false; }
        }
        return true;
    }
}
