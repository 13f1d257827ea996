using System.Numerics;

namespace Sluice.Iommu;

/// <summary>Why a command ring stopped.</summary>
internal enum RingStop : byte
{
    /// <summary>It did not: it is empty.</summary>
    None,

    /// <summary>The tail lies beyond the ring.</summary>
    TailBeyondRing,

    /// <summary>A command lies where there is no memory.</summary>
    Unreachable,

    /// <summary>The unit could not execute the command.</summary>
    BadCommand,
}

/// <summary>
/// A ring of 16-byte commands in memory, of 2^n bytes: software moves the tail, the unit the head. Its owner's lock
/// protects it.
/// </summary>
/// <remarks>
/// Commands are executed inside the register write that makes them visible. A command that stops the ring stays at the
/// head, also when executing it throws.
/// </remarks>
internal abstract class CommandRing(IPhysicalMemory memory)
{
    /// <summary>Bytes of a command.</summary>
    protected const int CommandBytes = 16;

    private const int MostBytesLog2 = 24;
    private PhysicalAddress _first;
    private uint _bytes;

    /// <summary>The next command's offset in the ring, in bytes.</summary>
    internal ulong Head { get; private set; }

    /// <summary>The offset behind the last command, in bytes.</summary>
    internal ulong Tail { get; private set; }

    internal bool IsEnabled { get; private set; }

    /// <summary>Whether an error keeps it from going on.</summary>
    protected abstract bool IsStopped { get; }

    /// <summary>The memory that the ring lies in.</summary>
    protected IPhysicalMemory Memory => memory;

    /// <summary>Executes commands until the ring is empty or stops on an error.</summary>
    internal void Run()
    {
        if (!IsEnabled || Head == Tail || IsStopped) { return; }
        RingStop stop = Tail < _bytes ? RingStop.None : RingStop.TailBeyondRing;
        while (stop == RingStop.None && Head != Tail)
        {
            PhysicalAddress at = _first + Head;
            stop = !memory.TryRead64(at, out ulong low) || !memory.TryRead64(at + sizeof(ulong), out ulong high)
                ? RingStop.Unreachable
                : Execute(low, high) ? RingStop.None : RingStop.BadCommand;
            if (stop == RingStop.None) { Head = (Head + CommandBytes) & (_bytes - 1); }
        }
        Ended(stop);
    }

    /// <summary>Moves the tail and runs.</summary>
    /// <param name="tail">Its new offset in bytes, a multiple of 16.</param>
    protected void MoveTail(ulong tail)
    {
        Tail = tail;
        Run();
    }

    /// <summary>Enables it with the head at zero, and runs; or disables it, which also puts the head to zero.</summary>
    /// <param name="on">Whether it is enabled.</param>
    /// <param name="first">Where it lies.</param>
    /// <param name="bytes">Its size, a power of two.</param>
    protected void Enable(bool on, PhysicalAddress first, uint bytes)
    {
        if (on == IsEnabled) { return; }
        (IsEnabled, Head, _first, _bytes) = (on, 0, first, bytes);
        Run();
    }

    /// <summary>Disabled and empty.</summary>
    protected void Clear() => (IsEnabled, Head, Tail) = (false, 0, 0);

    /// <summary>Saves or restores it. What comes in is brought into range: a run always ends.</summary>
    protected void CarryRing(StateWords state)
    {
        IsEnabled = state.Carry(IsEnabled);
        _first = new(state.Carry(_first.Value));
        _bytes = 1u << (int)Math.Min(state.Carry((uint)BitOperations.Log2(_bytes)), MostBytesLog2);
        Head = state.Carry(Head) & (_bytes - 1) & ~(CommandBytes - 1UL);
        Tail = state.Carry(Tail) & ~(CommandBytes - 1UL);
    }

    /// <summary>Executes one command.</summary>
    /// <param name="low">Bits 63:0.</param>
    /// <param name="high">Bits 127:64.</param>
    /// <returns>False when it cannot, which stops the ring.</returns>
    protected abstract bool Execute(ulong low, ulong high);

    /// <summary>Commands were executed, none or more, and the ring is empty or stopped.</summary>
    protected abstract void Ended(RingStop stop);
}
