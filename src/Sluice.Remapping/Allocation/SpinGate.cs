namespace Sluice.Remapping.Allocation;

/// <summary>
/// A lock for a few dozen instructions. Not reentrant, not fair, and never held over a wait of ours: whoever spins here
/// waits for somebody who is running, except when the scheduler took the processor away, and then yields. The one
/// exception is <see cref="Vtd.InvalidationQueue"/>, which writes a register inside: a unit that is software may take
/// its time over that. Where something inside may throw, leave it in a <c>finally</c>.
/// </summary>
internal struct SpinGate
{
    private int _held;

    /// <summary>Takes it.</summary>
    public void Enter()
    {
        if (Interlocked.CompareExchange(ref _held, 1, 0) != 0) { Contend(); }
    }

    /// <summary>Gives it back.</summary>
    public void Exit() => Volatile.Write(ref _held, 0);

    private void Contend()
    {
        SpinWait spin = default;
        do
        {
            spin.SpinOnce(sleep1Threshold: -1);
        }
        while (Volatile.Read(ref _held) != 0 || Interlocked.CompareExchange(ref _held, 1, 0) != 0);
    }
}
