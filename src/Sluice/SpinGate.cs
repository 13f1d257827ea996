using System.Runtime.CompilerServices;

namespace Sluice;

/// <summary>
/// A lock for a few dozen instructions on the data path: one atomic exchange in, one store out. Neither reentrant nor
/// fair, and never held over a wait of ours: whoever spins here waits for somebody who is running, except when the
/// scheduler took the processor away, and then yields. No foreign code and no allocation of unknown length runs inside,
/// but for one register write of <c>ConfirmedQueue</c>: a unit that is software may take its time over that.
/// </summary>
/// <remarks>
/// A value that lives in a field of its owner, never readonly and never copied. Where something inside may throw, leave
/// it in a <c>finally</c>. Safe from any thread.
/// </remarks>
public struct SpinGate
{
    private int _taken;

    /// <summary>Takes it, however long that takes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Enter()
    {
        if (Interlocked.Exchange(ref _taken, 1) != 0) { Wait(); }
    }

    /// <summary>Gives it back. Only who took it may.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Exit() => Volatile.Write(ref _taken, 0);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void Wait()
    {
        SpinWait spin = default;
        do { spin.SpinOnce(sleep1Threshold: -1); }
        while (Volatile.Read(ref _taken) != 0 || Interlocked.Exchange(ref _taken, 1) != 0);
    }
}
