using Sluice.Remapping.Allocation;

namespace Sluice.Remapping.Units;

/// <summary>
/// The command queue of one unit. Every call appends its commands and a fence, tells the unit once, and returns when
/// the unit has confirmed. Safe from any thread; several may wait at once. Allocates nothing.
/// </summary>
/// <remarks>
/// Fences store ever-growing numbers into one word, in order, so "my number or a later one" is all a waiter has to see,
/// and nobody holds the gate while polling for it. The tail register is written inside the gate, because tails must not
/// overtake each other. Hardware takes that write at once; a unit that is software may execute the queue inside it,
/// drain included, and then the next submitter yields for as long as that takes.
/// <para>A register access that throws is a unit that no longer answers: it is given up, with the exception as the
/// cause. Whatever was submitted then is not confirmed, so its pages are quarantined.</para>
/// </remarks>
/// <typeparam name="THardware">The kind of unit: a struct, so that its members are called directly.</typeparam>
internal sealed class ConfirmedQueue<THardware>
    where THardware : struct, IQueueHardware
{
    private const int CommandBytes = 1 << QueueCommand.SizeLog2;
    private readonly PhysicalMemory _memory;
    private readonly IPlatformClock _clock;
    private readonly long _waitNanoseconds;
    private readonly UnitLife _life;
    private readonly THardware _hardware;
    private readonly PhysicalAddress _ring;
    private readonly PhysicalAddress _status;
    private readonly QueueCommand[] _written;
    private readonly long[] _counts = new long[(int)CommandKind.All + 1];
    private SpinGate _gate;
    private int _tail;
    private int _used;
    private uint _issued;
    private int _replacedSlot = -1;

    /// <summary>A queue over a zeroed ring and a zeroed status word. The unit does not know it yet.</summary>
    /// <param name="platform">Memory and time.</param>
    /// <param name="waitNanoseconds">How long the unit may take to confirm.</param>
    /// <param name="life">Where the unit is given up.</param>
    /// <param name="hardware">The kind of unit.</param>
    /// <param name="ring">The ring.</param>
    /// <param name="ringLog2">Its bytes, as a power of two.</param>
    /// <param name="status">Where the fences store their numbers.</param>
    public ConfirmedQueue(
        IPlatform platform, long waitNanoseconds, UnitLife life, THardware hardware, PhysicalAddress ring, int ringLog2,
        PhysicalAddress status)
    {
        (_memory, _clock, _waitNanoseconds) = (platform.Memory, platform.Clock, waitNanoseconds);
        (_life, _hardware, _ring, _status) = (life, hardware, ring, status);
        _written = new QueueCommand[1 << (ringLog2 - QueueCommand.SizeLog2)];
    }

    /// <summary>Times somebody waited for the unit to confirm.</summary>
    public long Waits { get; private set; }

    /// <summary>Commands that the unit refused.</summary>
    public long Errors { get; private set; }

    /// <summary>How many commands of a kind were submitted.</summary>
    /// <param name="kind">The kind.</param>
    public long Count(CommandKind kind) => _counts[(int)kind];

    /// <summary>Appends commands, and waits until the unit has confirmed all of them.</summary>
    /// <param name="commands">Fewer than the ring has slots.</param>
    /// <returns>False when the unit is dead.</returns>
    public bool Submit(params ReadOnlySpan<QueueCommand> commands)
    {
        uint number;
        while (!TryAppend(commands, out number))
        {
            if (_life.IsDead || !Wait(Volatile.Read(ref _issued))) { return false; }
        }
        return HasReached(number) || Wait(number);
    }

    /// <summary>
    /// Looks for a command that the unit refused, and replaces it. Called by waiters and the fault interrupt.
    /// </summary>
    public void Recover()
    {
        bool hopeless = false;
        Exception? cause = null;
        try
        {
            if (!_hardware.HasStopped()) { return; }
            _gate.Enter();
            try { hopeless = !TryReplace(); }
            finally { _gate.Exit(); }
        }
        catch (Exception e) { (hopeless, cause) = (true, e); }
        // Never inside the gate.
        if (hopeless) { _life.Die(cause); }
    }

    private bool TryAppend(ReadOnlySpan<QueueCommand> commands, out uint number)
    {
        number = 0;
        try
        {
            _gate.Enter();
            try { return TryAppendInGate(commands, out number); }
            finally { _gate.Exit(); }
        }
        catch (Exception e)
        {
            // The gate is free by now.
            _life.Die(e);
            return false;
        }
    }

    private bool TryAppendInGate(ReadOnlySpan<QueueCommand> commands, out uint number)
    {
        number = _issued;
        if (_used + commands.Length + 1 >= _written.Length)
        {
            // Everything up to the last fence has been consumed once its number is there.
            if (!HasReached(_issued)) { return false; }
            _used = 0;
            // A replacement was consumed too: only here do slots come into use again, for something else.
            _replacedSlot = -1;
        }
        if (_life.IsDead) { return false; }
        foreach (QueueCommand command in commands)
        {
            _counts[(int)_hardware.KindOf(command)]++;
            Append(command);
        }
        number = ++_issued;
        Waits++;
        Append(_hardware.Fence(_status, number));
        _hardware.WriteTail(_tail);
        return true;
    }

    private void Append(QueueCommand command)
    {
        Store(_tail, command);
        _tail = (_tail + 1) & (_written.Length - 1);
        _used++;
    }

    private void Store(int slot, QueueCommand command)
    {
        PhysicalAddress address = _ring + (ulong)slot * CommandBytes;
        _written[slot] = command;
        if (_memory.TryWrite128(address, command.Low, command.High)) { return; }
        _memory.TryWrite64(address, command.Low);
        _memory.TryWrite64(address + 8, command.High);
    }

    /// <summary>
    /// Where the unit stopped, if it still is. Skipping the slot would leave something cached, so the widest form of
    /// what was written there takes its place. False when the unit refused that too.
    /// </summary>
    private bool TryReplace()
    {
        if (!_hardware.HasStopped()) { return true; }
        int slot = _hardware.ReadHead() & (_written.Length - 1);
        Errors++;
        if (slot == _replacedSlot) { return false; }
        _replacedSlot = slot;
        Store(slot, _hardware.Widen(_written[slot]));
        _hardware.Resume(_tail);
        return true;
    }

    private bool HasReached(uint number)
    {
        _memory.TryRead32(_status, out uint reached);
        return (int)(reached - number) >= 0;
    }

    private bool Wait(uint number)
    {
        for (Deadline limit = Deadline.In(_clock, _waitNanoseconds); !HasReached(number); limit.Relax())
        {
            if (_life.IsDead) { return false; }
            Recover();
            if (limit.HasPassed && !HasReached(number))
            {
                _life.Die();
                return false;
            }
        }
        return true;
    }
}
