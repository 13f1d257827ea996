using System.Runtime.InteropServices;
using Sluice.Dma;

namespace Sluice.Drivers.Nvme;

/// <summary>
/// A submission and a completion queue, and the slots of the commands between them. Requests that find no free slot
/// wait in order; whoever completes commands submits them.
/// </summary>
/// <remarks>
/// Two locks, neither held while the other's work is done: one for slots and the submission ring, one for the
/// completion ring. No foreign code runs under the first. A slot belongs to the controller from the doorbell to its
/// completion, whatever the waiter does meanwhile.
/// </remarks>
internal sealed partial class NvmeQueuePair : IDisposable
{
    private const int DrainBurst = 64;

    // A command id is a slot and how often the slot was used: a controller that completes a command twice then hits
    // nothing, instead of the slot's next command.
    private const int SlotBits = 10;
    private const int UsesMask = 0x3F;

    private readonly NvmeRegisters _registers;
    private readonly DmaAdapter _adapter;
    private readonly NvmeLimits _limits;
    private readonly CommonBuffer _submissions;
    private readonly CommonBuffer _completions;
    private readonly CommonBuffer _lists;
    private readonly uint _listBytes;
    private readonly uint _submissionDoorbell;
    private readonly uint _completionDoorbell;
    private readonly Slot[] _slots;

    private readonly Lock _submitting = new();
    private readonly Stack<int> _free;
    private readonly Stack<int> _parked;
    private NvmeRequest? _firstWaiting;
    private NvmeRequest? _lastWaiting;
    private NvmeRequest? _pool;
    private uint _tail;
    private State _state;

    private readonly Lock _completing = new();
    private readonly int[] _done = new int[DrainBurst];
    private uint _head;
    private bool _phase = true;
    private bool _drainAgain;
    private bool _isClosed;
    private int _tick;

    public NvmeQueuePair(int id, NvmeRegisters registers, DmaAdapter adapter, in NvmeLimits limits)
    {
        (Id, _registers, _adapter, _limits) = (id, registers, adapter, limits);
        Entries = (uint)limits.QueueDepth + 1;
        _listBytes = PrpWriter.ListBytes(limits.MaxTransferBytes);
        _submissions = adapter.AllocateCommonBuffer(Entries * NvmeCommand.Bytes, new() { Access = DmaAccess.Read });
        _completions = adapter.AllocateCommonBuffer(
            Entries * NvmeCommand.CompletionBytes, new() { Access = DmaAccess.ReadWrite });
        _lists = adapter.AllocateCommonBuffer((uint)limits.QueueDepth * _listBytes, new() { Access = DmaAccess.Read });
        (_submissionDoorbell, _completionDoorbell) =
            (registers.SubmissionDoorbell(id), registers.CompletionDoorbell(id));
        _slots = new Slot[limits.QueueDepth];
        (_free, _parked) = (new(_slots.Length), new(_slots.Length));
        for (int i = _slots.Length - 1; i >= 0; i--) { _free.Push(i); }
    }

    private enum State : byte
    {
        /// <summary>Requests wait: the controller is starting or being reset.</summary>
        Paused,
        Running,

        /// <summary>Requests fail.</summary>
        Dead,
    }

    private enum SlotState : byte
    {
        /// <summary>On the free stack, or with the thread that is filling it.</summary>
        Idle,

        /// <summary>The controller has it.</summary>
        InFlight,
    }

    private struct Slot
    {
        public NvmeRequest? Request;
        public NvmePiece Piece;
        public ScatterGatherLease List;
        public int Tick;
        public int Uses;
        public SlotState State;
        public bool IsAborting;
        public bool WasAborted;
    }

    public int Id { get; }

    /// <summary>Whether a vector runs <see cref="Drain"/>.</summary>
    public bool HasInterrupt { get; set; }

    /// <summary>Entries of each ring; one always stays empty.</summary>
    public uint Entries { get; }

    public LogicalAddress SubmissionAddress => _submissions.Address;

    public LogicalAddress CompletionAddress => _completions.Address;

    /// <summary>
    /// Completions of commands that were not in flight: a controller that completes one twice, or makes one up.
    /// </summary>
    public long UnexpectedCompletions { get; private set; }

    /// <summary>A request for one use; it comes back by itself.</summary>
    public NvmeRequest Rent()
    {
        lock (_submitting)
        {
            if (_pool is not { } request) { return new(this); }
            (_pool, request.Next) = (request.Next, null);
            return request;
        }
    }

    public void Return(NvmeRequest request)
    {
        lock (_submitting) { (request.Next, _pool) = (_pool, request); }
    }

    /// <summary>
    /// Submits a request, or lets it wait for a slot. Its answer, good or bad, comes through the request alone.
    /// </summary>
    public void Start(NvmeRequest request)
    {
        lock (_submitting)
        {
            if (_lastWaiting is null) { _firstWaiting = request; }
            else { _lastWaiting.Next = request; }
            _lastWaiting = request;
        }
        Pump();
    }

    /// <summary>
    /// Takes completions, then submits what waits. From any thread; under a wait, as often as one likes.
    /// </summary>
    public void Poll()
    {
        if (Volatile.Read(ref _isClosed)) { return; }
        // A glance without the lock: when it misses something, another thread is just draining, or the next poll sees
        // it.
        if (Peek(Volatile.Read(ref _head)).Phase != Volatile.Read(ref _phase)) { return; }
        Drain();
    }

    /// <summary>
    /// As <see cref="Poll"/>, but never misses an entry that is there when it is called: for interrupt handlers.
    /// </summary>
    public void Drain()
    {
        if (_completing.IsHeldByCurrentThread)
        {
            // A put below waited for the machine, and the machine ran an interrupt handler on this very thread.
            _drainAgain = true;
            return;
        }
        bool drained = false;
        lock (_completing)
        {
            if (_isClosed) { return; }
            // Bounded even when a broken controller fills the ring as fast as we empty it: its next interrupt calls
            // again.
            for (uint burst = 0; burst * DrainBurst <= 2 * Entries; burst++)
            {
                _drainAgain = false;
                int count = DrainBurstOnce();
                drained |= count > 0;
                if (count < DrainBurst && !_drainAgain) { break; }
            }
        }
        if (drained) { Pump(); }
    }

    private int DrainBurstOnce()
    {
        int done = 0;
        int seen = 0;
        for (; seen < DrainBurst; seen++)
        {
            NvmeCompletion completion = Peek(_head);
            if (completion.Phase != _phase) { break; }
            uint next = _head + 1;
            if (next == Entries)
            {
                next = 0;
                Volatile.Write(ref _phase, !_phase);
            }
            Volatile.Write(ref _head, next);
            int id = completion.CommandId & ((1 << SlotBits) - 1);
            if (id >= _slots.Length || _slots[id].State != SlotState.InFlight || CommandId(id) != completion.CommandId)
            {
                UnexpectedCompletions++;
                continue;
            }
            if (CompleteRequest(ref _slots[id], completion.Status)) { _done[done++] = id; }
        }
        if (seen == 0) { return 0; }
        _registers.Ring(_completionDoorbell, _head);
        lock (_submitting)
        {
            for (int i = 0; i < done; i++) { _free.Push(_done[i]); }
        }
        return seen;
    }

    /// <summary>The id of the command that is in a slot now.</summary>
    public int CommandId(int slot) => slot | ((_slots[slot].Uses & UsesMask) << SlotBits);

    private NvmeCompletion Peek(uint head) =>
        new(_completions.Read64((head * NvmeCommand.CompletionBytes) + sizeof(ulong)));

    /// <summary>
    /// Unmaps, then answers. False when the slot is not free yet because an abort of its command is under way.
    /// </summary>
    private bool CompleteRequest(ref Slot slot, NvmeStatus status)
    {
        NvmeRequest request = slot.Request!;
        bool wasAborted = slot.WasAborted;
        Unmap(ref slot);
        (slot.Request, slot.State) = (null, SlotState.Idle);
        request.Finish(status.IsSuccess ? null : ErrorOf(request, status, wasAborted));
        return !slot.IsAborting;
    }

    private void Unmap(ref Slot slot)
    {
        if (slot.List.IsLive) { _adapter.PutScatterGatherList(slot.List, nameof(CompleteRequest)); }
        slot.List = default;
    }

    private static NvmeException ErrorOf(NvmeRequest request, NvmeStatus status, bool wasAborted) => wasAborted
        ? new(NvmeFailure.TimedOut, $"{NvmeCommand.NameOf(request.Opcode)} took too long and was aborted")
        : new(NvmeCommand.NameOf(request.Opcode), status);

    /// <summary>Submits what waits, as far as slots and DMA resources go.</summary>
    private void Pump()
    {
        int retries;
        bool isDead;
        lock (_submitting) { (retries, isDead) = (_parked.Count, _state == State.Dead); }
        if (isDead)
        {
            FailWaiting();
            return;
        }
        while (TryTakeWork(ref retries, out int id, out NvmeRequest? dropped))
        {
            if (dropped is not null) { dropped.Finish(null); }
            else { Submit(id); }
        }
    }

    private bool TryTakeWork(ref int retries, out int id, out NvmeRequest? dropped)
    {
        (id, dropped) = (-1, null);
        lock (_submitting)
        {
            if (_state != State.Running) { return false; }
            if (_parked.Count > 0)
            {
                // Resources are short: what was refused first is tried first, once, and nothing overtakes it.
                return retries-- > 0 && _parked.TryPop(out id);
            }
            if (_firstWaiting is not { } request || !_free.TryPeek(out id)) { return false; }
            uint maxLength = request.Buffer is null ? uint.MaxValue : _limits.MaxTransferBytes;
            bool taken = request.TryTake(maxLength, out NvmePiece piece, out bool isLast);
            if (isLast)
            {
                (_firstWaiting, request.Next) = (request.Next, null);
                if (_firstWaiting is null) { _lastWaiting = null; }
            }
            if (!taken)
            {
                dropped = request;
                return true;
            }
            _free.Pop();
            ref Slot slot = ref _slots[id];
            (slot.Request, slot.Piece, slot.Tick, slot.WasAborted) = (request, piece, Volatile.Read(ref _tick), false);
            slot.Uses++;
            return true;
        }
    }

    /// <summary>Maps and rings the doorbell. The slot is this thread's until then.</summary>
    private void Submit(int id)
    {
        ref Slot slot = ref _slots[id];
        NvmeCommand command;
        try
        {
            if (!TryBuild(ref slot, id, out command))
            {
                Park(id);
                return;
            }
        }
        catch (Exception e) when (e is DmaException or ArgumentException or InvalidOperationException)
        {
            Abandon(id, e);
            return;
        }
        lock (_submitting)
        {
            if (_state == State.Running)
            {
                slot.State = SlotState.InFlight;
                uint offset = _tail * NvmeCommand.Bytes;
                Span<byte> entry = _submissions.GetSpan(offset, NvmeCommand.Bytes);
                command.Store(MemoryMarshal.Cast<byte, ulong>(entry), CommandId(id));
                _tail = _tail + 1 == Entries ? 0 : _tail + 1;
                _registers.Ring(_submissionDoorbell, _tail);
                return;
            }
        }
        // The controller was stopped while this thread mapped: the device never heard of the mapping.
        Unmap(ref slot);
        Park(id);
    }

    /// <summary>Keeps a command for later: DMA resources are short, or the controller is being reset.</summary>
    private void Park(int id)
    {
        bool isDead;
        lock (_submitting)
        {
            isDead = _state == State.Dead;
            if (!isDead) { _parked.Push(id); }
        }
        if (isDead) { Abandon(id, Dead()); }
    }

    private void Abandon(int id, Exception error)
    {
        NvmeRequest request = _slots[id].Request!;
        Unmap(ref _slots[id]);
        _slots[id].Request = null;
        lock (_submitting) { _free.Push(id); }
        request.Finish(error);
    }

    private bool TryBuild(ref Slot slot, int id, out NvmeCommand command)
    {
        NvmeRequest request = slot.Request!;
        NvmePiece piece = slot.Piece;
        command = new(request.Opcode, request.Namespace);
        uint listOffset = (uint)id * _listBytes;
        if (request.Buffer is { } buffer)
        {
            bool isRead = request.Opcode == NvmeCommand.Read;
            DmaDirection direction = isRead ? DmaDirection.FromDevice : DmaDirection.ToDevice;
            string site = isRead ? "SubmitRead" : "SubmitWrite";
            if (!_adapter.TryGetScatterGatherList(
                buffer, piece.Offset, piece.Length, direction, out slot.List, (uint)id, site))
            {
                return false;
            }
            (LogicalAddress prp1, LogicalAddress prp2) = PrpWriter.Write(slot.List, _lists, listOffset, _listBytes);
            command = command with
            {
                Prp1 = prp1,
                Prp2 = prp2,
                StartBlock = piece.Block,
                Dword12 = (piece.Length >> request.BlockSizeLog2) - 1,
            };
        }
        else if (request.Opcode == NvmeCommand.DatasetManagement)
        {
            // One range of 16 bytes, in memory of ours that may be read to the end of its page: some controllers do.
            Span<ulong> range = MemoryMarshal.Cast<byte, ulong>(_lists.GetSpan(listOffset, 2 * sizeof(ulong)));
            (range[0], range[1]) = ((ulong)piece.Length << 32, piece.Block);
            const uint Deallocate = 1 << 2;
            command = command with { Prp1 = _lists.Address + listOffset, Dword11 = Deallocate };
        }
        return true;
    }

    private static NvmeException Dead() =>
        new(NvmeFailure.ControllerDead, "the NVMe controller is gone, dead or shut down");
}
