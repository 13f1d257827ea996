using System.Runtime.InteropServices;
using Sluice.Dma;

namespace Sluice.Drivers.Nvme;

/// <summary>The admin queue: one command at a time, polled, and one standing request for asynchronous events.</summary>
internal sealed class NvmeAdminQueue : IDisposable
{
    public const uint Entries = 32;
    private const ushort EventRequestId = 0xFFFF;
    private const uint NoEvent = uint.MaxValue;
    private readonly NvmeRegisters _registers;
    private readonly IPlatformClock _clock;
    private readonly CommonBuffer _submissions;
    private readonly CommonBuffer _completions;
    private readonly CommonBuffer _data;
    private readonly Lock _lock = new();
    private uint _tail;
    private uint _head;
    private bool _phase = true;
    private ushort _lastId;
    private uint _event = NoEvent;

    public NvmeAdminQueue(NvmeRegisters registers, DmaAdapter adapter, IPlatformClock clock)
    {
        (_registers, _clock) = (registers, clock);
        _submissions = adapter.AllocateCommonBuffer(Entries * NvmeCommand.Bytes, new() { Access = DmaAccess.Read });
        _completions = adapter.AllocateCommonBuffer(
            Entries * NvmeCommand.CompletionBytes, new() { Access = DmaAccess.ReadWrite });
        _data = adapter.AllocateCommonBuffer(4096, new() { Access = DmaAccess.Write });
    }

    /// <summary>Events that the controller reported.</summary>
    public long Events { get; private set; }

    /// <summary>Whether this thread is inside a command: on a stepped machine, timers run inside waits.</summary>
    public bool IsBusyHere => _lock.IsHeldByCurrentThread;

    /// <summary>Tells a stopped controller where the rings are, and empties them.</summary>
    public void Prepare()
    {
        _submissions.Clear();
        _completions.Clear();
        (_tail, _head, _phase, _event) = (0, 0, true, NoEvent);
        _registers.SetAdminQueue(_submissions.Address, _completions.Address, Entries);
    }

    /// <summary>Runs a command that returns a page of data.</summary>
    /// <exception cref="NvmeException">It failed or took too long.</exception>
    public byte[] ExecuteIn(NvmeCommand command, long timeout, string name)
    {
        lock (_lock)
        {
            Require(
                TryExecute(command with { Prp1 = _data.Address }, timeout, out NvmeStatus status, out _), status, name);
            return _data.GetSpan(0, 4096).ToArray();
        }
    }

    /// <summary>Runs a command.</summary>
    /// <exception cref="NvmeException">It failed or took too long.</exception>
    public uint Execute(in NvmeCommand command, long timeout, string name)
    {
        Require(TryExecute(command, timeout, out NvmeStatus status, out uint result), status, name);
        return result;
    }

    /// <summary>Runs a command; false when there was no answer in time.</summary>
    public bool TryExecute(in NvmeCommand command, long timeout, out NvmeStatus status, out uint result)
    {
        lock (_lock)
        {
            // Ids go around, so that a late answer to a command given up is not taken for another's.
            ushort id = _lastId = (ushort)((_lastId + 1) & 0x7FFF);
            Push(command, id);
            for (Deadline limit = Deadline.In(_clock, timeout); ; limit.Relax())
            {
                if (TryTake(id, out status, out result)) { return true; }
                if (limit.HasPassed || NvmeRegisters.IsFatal(_registers.Status))
                {
                    return TryTake(id, out status, out result);
                }
            }
        }
    }

    /// <summary>Asks to be told of events.</summary>
    public void RequestEvent()
    {
        lock (_lock) { Push(new(NvmeCommand.AsyncEventRequest, 0), EventRequestId); }
    }

    /// <summary>Takes an event, reads the log page that ends its silence, and asks for the next.</summary>
    public bool TryTakeEvent(long timeout, out uint what)
    {
        lock (_lock)
        {
            _ = TryTake(EventRequestId - 1, out _, out _);
            (what, _event) = (_event, NoEvent);
            if (what == NoEvent) { return false; }
            Events++;
            uint page = (what >> 16) & 0xFF;
            const uint Dwords = 127;
            NvmeCommand readLog = new(NvmeCommand.GetLogPage, uint.MaxValue)
            {
                Prp1 = _data.Address, Dword10 = page | (Dwords << 16),
            };
            _ = TryExecute(readLog, timeout, out _, out _);
            RequestEvent();
            return true;
        }
    }

    public void Dispose()
    {
        _submissions.Dispose();
        _completions.Dispose();
        _data.Dispose();
    }

    private void Push(in NvmeCommand command, ushort id)
    {
        Span<byte> entry = _submissions.GetSpan(_tail * NvmeCommand.Bytes, NvmeCommand.Bytes);
        command.Store(MemoryMarshal.Cast<byte, ulong>(entry), id);
        _tail = (_tail + 1) % Entries;
        _registers.Ring(_registers.SubmissionDoorbell(0), _tail);
    }

    /// <summary>Empties the completion ring; true when the answer to <paramref name="id"/> was there.</summary>
    private bool TryTake(ushort id, out NvmeStatus status, out uint result)
    {
        (status, result) = (default, 0);
        bool found = false;
        bool any = false;
        for (uint i = 0; i < Entries && !found; i++)
        {
            uint offset = _head * NvmeCommand.CompletionBytes;
            NvmeCompletion completion = new(_completions.Read64(offset + sizeof(ulong)));
            if (completion.Phase != _phase) { break; }
            uint value = _completions.Read32(offset);
            _head = (_head + 1) % Entries;
            if (_head == 0) { _phase = !_phase; }
            any = true;
            if (completion.CommandId == EventRequestId && completion.Status.IsSuccess) { _event = value; }
            found = completion.CommandId == id;
            if (found) { (status, result) = (completion.Status, value); }
        }
        if (any) { _registers.Ring(_registers.CompletionDoorbell(0), _head); }
        return found;
    }

    private static void Require(bool answered, NvmeStatus status, string name)
    {
        if (!answered)
        {
            throw new NvmeException(NvmeFailure.TimedOut, $"{name} was not answered by the NVMe controller");
        }
        if (!status.IsSuccess) { throw new NvmeException(name, status); }
    }
}
