using System.Runtime.CompilerServices;

namespace Sluice.Dma;

/// <summary>
/// A lock for sections of a few dozen instructions: one atomic exchange in, one store out. Not reentrant.
/// No foreign code, wait or allocation of unknown length runs inside it.
/// </summary>
internal struct SpinGate
{
    private int _taken;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void Enter()
    {
        if (Interlocked.Exchange(ref _taken, 1) != 0) { Wait(); }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void Exit() => Volatile.Write(ref _taken, 0);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void Wait()
    {
        SpinWait spin = default;
        do { spin.SpinOnce(sleep1Threshold: -1); }
        while (Volatile.Read(ref _taken) != 0 || Interlocked.Exchange(ref _taken, 1) != 0);
    }
}
