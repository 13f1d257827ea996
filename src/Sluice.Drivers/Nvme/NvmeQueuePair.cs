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

    private static readonly ScatterGatherCallback s_onMapped = static (list, failure, state) =>
    {
        var slot = (NvmeSlot)state!;
        slot.Queue.OnMapped(slot, list, failure);
    };

    private readonly NvmeRegisters _registers;
    private readonly DmaAdapter _adapter;
    private readonly NvmeLimits _limits;
    private readonly CommonBuffer _submissions;
    private readonly CommonBuffer _completions;
    private readonly CommonBuffer _lists;
    private readonly uint _listBytes;
    private readonly uint _submissionDoorbell;
    private readonly uint _completionDoorbell;
    private readonly NvmeSlot[] _slots;

    private readonly Lock _submitting = new();
    private readonly Stack<NvmeSlot> _free;

    // Commands that found the controller stopped.
    private readonly Queue<NvmeSlot> _parked;
    private NvmeRequest? _firstWaiting;
    private NvmeRequest? _lastWaiting;
    private NvmeRequest? _pool;
    private uint _tail;
    private State _state;

    private readonly Lock _completing = new();
    private readonly NvmeSlot[] _done = new NvmeSlot[DrainBurst];
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
        _slots = new NvmeSlot[limits.QueueDepth];
        (_free, _parked) = (new(_slots.Length), new(_slots.Length));
        for (int i = _slots.Length - 1; i >= 0; i--) { _free.Push(_slots[i] = new(this, i, adapter)); }
    }

    private enum State : byte
    {
        /// <summary>Requests wait: the controller is starting or being reset.</summary>
        Paused,
        Running,

        /// <summary>Requests fail.</summary>
        Dead,
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
            int id = completion.CommandId & ((1 << NvmeSlot.IndexBits) - 1);
            if (id >= _slots.Length || _slots[id] is not { State: NvmeSlotState.InFlight } slot
                || slot.CommandId != completion.CommandId)
            {
                UnexpectedCompletions++;
                continue;
            }
            if (CompleteRequest(slot, completion.Status)) { _done[done++] = slot; }
        }
        if (seen == 0) { return 0; }
        _registers.Ring(_completionDoorbell, _head);
        lock (_submitting)
        {
            for (int i = 0; i < done; i++) { _free.Push(_done[i]); }
        }
        return seen;
    }

    private NvmeCompletion Peek(uint head) =>
        new(_completions.Read64((head * NvmeCommand.CompletionBytes) + sizeof(ulong)));

    /// <summary>
    /// Unmaps, then answers. False when the slot is not free yet because an abort of its command is under way.
    /// </summary>
    private bool CompleteRequest(NvmeSlot slot, NvmeStatus status)
    {
        bool wasAborted = slot.WasAborted;
        NvmeRequest request = TakeOver(slot);
        Exception? thrown = Unmap(slot);
        request.Finish(status.IsSuccess ? thrown : ErrorOf(request, status, wasAborted));
        return !slot.IsAborting;
    }

    /// <summary>
    /// The command is no longer the controller's, and whoever calls answers it: before anything is put, because a put
    /// may wait, and on a stepped machine whatever gives up commands in flight may run inside that wait, on this thread
    /// and past its lock.
    /// </summary>
    private static NvmeRequest TakeOver(NvmeSlot slot)
    {
        NvmeRequest request = slot.Request!;
        (slot.Request, slot.State) = (null, NvmeSlotState.Idle);
        return request;
    }

    /// <summary>
    /// Gives the list back, and returns what that threw: a rule that the buffer's owner broke, a unit that throws. It
    /// is the answer to this command, and concerns no other.
    /// </summary>
    private Exception? Unmap(NvmeSlot slot)
    {
        ScatterGatherLease list = slot.List;
        slot.List = default;
        if (!list.IsLive) { return null; }
        try
        {
            _adapter.PutScatterGatherList(list, nameof(CompleteRequest));
            return !list.IsLeaked ? null : new DmaException(DmaFailure.Dead,
                "the remapping unit died under the transfer: its buffer stays the device's");
        }
        catch (Exception thrown) { return thrown; }
    }

    private static NvmeException ErrorOf(NvmeRequest request, NvmeStatus status, bool wasAborted) => wasAborted
        ? new(NvmeFailure.TimedOut, $"{NvmeCommand.NameOf(request.Opcode)} took too long and was aborted")
        : new(NvmeCommand.NameOf(request.Opcode), status);

    /// <summary>Submits what waits, as far as there are slots.</summary>
    private void Pump()
    {
        if (IsDead) { FailWaiting(); }
        while (TryTakeWork(out NvmeSlot? slot, out NvmeRequest? dropped))
        {
            if (dropped is not null) { dropped.Finish(null); }
            else { Submit(slot!); }
        }
    }

    private bool TryTakeWork(out NvmeSlot? slot, out NvmeRequest? dropped)
    {
        (slot, dropped) = (null, null);
        lock (_submitting)
        {
            if (_state != State.Running) { return false; }
            if (_parked.TryDequeue(out slot)) { return true; }
            if (_firstWaiting is not { } request || !_free.TryPeek(out slot)) { return false; }
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
            slot.Begin(request, piece);
            return true;
        }
    }

    /// <summary>
    /// Asks for the list; whoever gives it rings the doorbell, now or when resources come back. The adapter's queue is
    /// first come, first served, and nothing overtakes it.
    /// </summary>
    private void Submit(NvmeSlot slot)
    {
        NvmeRequest request = slot.Request!;
        bool isRead = request.Opcode == NvmeCommand.Read;
        DmaDirection direction = isRead ? DmaDirection.FromDevice : DmaDirection.ToDevice;
        string site = isRead ? "SubmitRead" : "SubmitWrite";
        NvmePiece piece = slot.Piece;
        try
        {
            if (request.Buffer is not { } buffer)
            {
                Send(slot, BuildWithoutBuffer(slot, request));
                return;
            }
            // Usually there is enough of everything, and nobody waits.
            DmaFailure failure = _adapter.TryBuildScatterGatherList(
                slot.Mapping, buffer, piece.Offset, piece.Length, direction, out ScatterGatherLease list,
                (uint)slot.Index, site);
            if (failure != DmaFailure.OutOfResources) { OnMapped(slot, list, failure); }
            else { SubmitInTurn(slot, buffer, direction, site); }
        }
        catch (Exception e) when (e is DmaException or ArgumentException or InvalidOperationException)
        {
            Abandon(slot, IsDead ? Dead() : e);
        }
    }

    private void SubmitInTurn(NvmeSlot slot, Mdl buffer, DmaDirection direction, string site)
    {
        NvmePiece piece = slot.Piece;
        (slot.Tick, slot.IsMappedHere) = (Volatile.Read(ref _tick), true);
        slot.State = NvmeSlotState.Mapping;
        try
        {
            _adapter.BuildScatterGatherList(
                slot.Mapping, buffer, piece.Offset, piece.Length, direction, s_onMapped, slot, (uint)slot.Index, site);
        }
        finally
        {
            // Where the list came from another thread meanwhile, the slot may be that thread's, or the next command's.
            if (slot.IsMappedHere) { slot.IsMappedHere = false; }
        }
        // Given up meanwhile: whoever did so may have looked at this slot before it waited.
        if (IsDead) { EndWait(slot, olderThan: int.MinValue, Dead()); }
    }

    /// <summary>The list is there, or never will be. On whichever thread; throws nothing.</summary>
    private void OnMapped(NvmeSlot slot, ScatterGatherLease list, DmaFailure failure)
    {
        bool submitterGoesOn = slot.State == NvmeSlotState.Idle || slot.IsMappedHere;
        slot.List = list;
        Exception? error = failure == DmaFailure.None ? null
            : slot.Mapping.Problem ?? new DmaException(failure, $"the buffer cannot be mapped: {failure}");
        if (error is null && TryBuild(slot, out NvmeCommand command, out error)) { Send(slot, command); }
        else
        {
            Abandon(slot, error!);
            // Its slot may be what the next request waits for.
            if (!submitterGoesOn) { Pump(); }
        }
    }

    /// <summary>Rings the doorbell. The slot is this thread's until then.</summary>
    private void Send(NvmeSlot slot, in NvmeCommand command)
    {
        lock (_submitting)
        {
            if (_state == State.Running)
            {
                (slot.Tick, slot.State) = (Volatile.Read(ref _tick), NvmeSlotState.InFlight);
                uint offset = _tail * NvmeCommand.Bytes;
                Span<byte> entry = _submissions.GetSpan(offset, NvmeCommand.Bytes);
                command.Store(MemoryMarshal.Cast<byte, ulong>(entry), slot.CommandId);
                _tail = _tail + 1 == Entries ? 0 : _tail + 1;
                _registers.Ring(_submissionDoorbell, _tail);
                return;
            }
        }
        // The controller was stopped while this thread mapped: the device never heard of the mapping.
        if (Unmap(slot) is { } thrown) { Abandon(slot, thrown); }
        else { Park(slot); }
    }

    /// <summary>Keeps a command until the controller runs again.</summary>
    private void Park(NvmeSlot slot)
    {
        State state;
        lock (_submitting)
        {
            state = _state;
            slot.State = NvmeSlotState.Idle;
            if (state != State.Dead) { _parked.Enqueue(slot); }
        }
        if (state == State.Dead) { Abandon(slot, Dead()); }
        // It came back between the two looks.
        else if (state == State.Running) { Pump(); }
    }

    private void Abandon(NvmeSlot slot, Exception error)
    {
        NvmeRequest request = slot.Request!;
        Unmap(slot);
        (slot.Request, slot.State) = (null, NvmeSlotState.Idle);
        lock (_submitting) { _free.Push(slot); }
        request.Finish(error);
    }

    private bool TryBuild(NvmeSlot slot, out NvmeCommand command, out Exception? unfit)
    {
        NvmeRequest request = slot.Request!;
        NvmePiece piece = slot.Piece;
        (command, unfit) = (new(request.Opcode, request.Namespace), null);
        try
        {
            (LogicalAddress prp1, LogicalAddress prp2) =
                PrpWriter.Write(slot.List, _lists, (uint)slot.Index * _listBytes, _listBytes);
            command = command with
            {
                Prp1 = prp1,
                Prp2 = prp2,
                StartBlock = piece.Block,
                Dword12 = (piece.Length >> request.BlockSizeLog2) - 1,
            };
            return true;
        }
        catch (Exception e) when (e is ArgumentException or InvalidOperationException)
        {
            // The second when the rings were given back before the list came.
            unfit = IsDead ? Dead() : e;
            return false;
        }
    }

    private NvmeCommand BuildWithoutBuffer(NvmeSlot slot, NvmeRequest request)
    {
        NvmeCommand command = new(request.Opcode, request.Namespace);
        if (request.Opcode != NvmeCommand.DatasetManagement) { return command; }
        // One range of 16 bytes, in memory of ours that may be read to the end of its page: some controllers do.
        uint offset = (uint)slot.Index * _listBytes;
        Span<ulong> range = MemoryMarshal.Cast<byte, ulong>(_lists.GetSpan(offset, 2 * sizeof(ulong)));
        (range[0], range[1]) = ((ulong)slot.Piece.Length << 32, slot.Piece.Block);
        const uint Deallocate = 1 << 2;
        return command with { Prp1 = _lists.Address + offset, Dword11 = Deallocate };
    }

    private bool IsDead
    {
        get
        {
            lock (_submitting) { return _state == State.Dead; }
        }
    }

    private static NvmeException Dead() =>
        new(NvmeFailure.ControllerDead, "the NVMe controller is gone, dead or shut down");
}
