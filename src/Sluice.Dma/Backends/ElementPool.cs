using System.Numerics;

namespace Sluice.Dma;

/// <summary>
/// Arrays for lists of more than one element, kept by power-of-two size. Allocates only while demand still grows.
/// </summary>
internal sealed class ElementPool
{
    private const int SmallestLog2 = 3;
    private readonly Stack<ScatterGatherElement[]>[] _free;
    private SpinGate _gate;

    internal ElementPool()
    {
        _free = new Stack<ScatterGatherElement[]>[32 - SmallestLog2];
        for (int i = 0; i < _free.Length; i++) { _free[i] = new(); }
    }

    internal ScatterGatherElement[] Rent(int atLeast)
    {
        int sizeLog2 = 32 - BitOperations.LeadingZeroCount((uint)Math.Max(atLeast, 1 << SmallestLog2) - 1);
        _gate.Enter();
        bool found = _free[sizeLog2 - SmallestLog2].TryPop(out ScatterGatherElement[]? array);
        _gate.Exit();
        return found ? array! : new ScatterGatherElement[1 << sizeLog2];
    }

    internal void Return(ScatterGatherElement[] array)
    {
        _gate.Enter();
        try { _free[BitOperations.Log2((uint)array.Length) - SmallestLog2].Push(array); }
        finally { _gate.Exit(); }
    }
}
