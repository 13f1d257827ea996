namespace Sluice.Machines.Nvme;

/// <summary>
/// An NVMe 1.4 controller with one namespace, register-exact: 64-bit BAR 0, admin and I/O queues in the driver's
/// memory, PRP lists, MSI-X and a pin. What it supports and how it answers errors is in <c>docs/nvme.md</c>.
/// </summary>
/// <remarks>
/// <para>Register accesses come from any thread and touch only registers and doorbells; all other work, and every DMA,
/// happens in <see cref="Step"/> on the device's own thread: at most eight commands, sixteen holes of 64 MiB
/// altogether in the medium, or one mebibyte of a longer transfer or of zeroing, per step.</para>
/// <para>Data moves medium → staging buffer → memory, as in a real controller, so that no DMA waits for a disk. Nothing
/// allocates once the queues exist, but for the first Compare.</para>
/// <para>A refused DMA of data ends the command with Data Transfer Error; a refused DMA of the queues themselves is
/// fatal (CSTS.CFS) until the driver resets the controller.</para>
/// </remarks>
public sealed partial class NvmeModel : PciDevice, IDisposable
{
    private const int Burst = 8;
    private const uint BarSize = 0x4000;
    private const uint VectorTable = 0x2000;
    private const uint PendingVectors = 0x3000;

    // QEMU's ids, so that a driver which knows that controller knows this one.
    private static readonly PciIdentity s_identity =
        new(IdentifyData.VendorId, 0x0010, ClassCode: 0x010802, Revision: 2);

    private readonly NvmeModelOptions _options;
    private readonly INvmeMedium _medium;
    private readonly ulong _blocks;
    private readonly byte[] _staging;
    private readonly ulong[] _commands = new ulong[Burst * SubmissionEntry.Bytes / sizeof(ulong)];
    private readonly PrpTransfer _transfer;
    private readonly NvmeFeatures _features;
    private readonly NvmeLogs _logs = new();
    private readonly AsyncEvents _events = new();
    private readonly SubmissionQueue?[] _submissions;
    private readonly CompletionQueue?[] _completions;
    private readonly List<HeldCommand> _held = [];
    private ulong _interruptsDue;
    private int _nextQueue;
    private bool _isDead;
    private bool _completesTwice;
    private HeldCommand? _echo;

    /// <summary>A controller whose namespace is <paramref name="medium"/>; the device disposes it.</summary>
    public NvmeModel(INvmeMedium medium, NvmeModelOptions? options = null)
        : base("nvme", s_identity)
    {
        ArgumentNullException.ThrowIfNull(medium);
        _options = options ?? new();
        _options.Check();
        AddBar(0, BarSize, is64Bit: true);
        AddPin();
        AddPowerManagement();
        AddMsix(_options.QueuePairs + 1, 0, VectorTable, PendingVectors);
        _medium = medium;
        _blocks = ((ulong)medium.Length + (1UL << _options.BlockSizeLog2) - 1) >> _options.BlockSizeLog2;
        long longest = Math.Max(_options.MaxTransferBytes, 1 << 16);
        _staging = GC.AllocateUninitializedArray<byte>((int)Math.Min(longest, MoveStep), pinned: true);
        _transfer = new((int)(longest >> 12));
        _features = new(_options.QueuePairs);
        _submissions = new SubmissionQueue?[_options.QueuePairs + 1];
        _completions = new CompletionQueue?[_options.QueuePairs + 1];
    }

    /// <summary>
    /// Asked about every command before it runs, on the device's thread; null for a controller that works. For testing
    /// drivers.
    /// </summary>
    public Func<NvmeCommandInfo, NvmeMisbehaviour>? Misbehave { get; set; }

    /// <inheritdoc/>
    public override bool Step()
    {
        bool worked = ApplyConfiguration();
        if (!_isRunning || _isDead) { return worked; }
        worked |= TakeDoorbellErrors();
        worked |= PostWaiting();
        worked |= _zeroing.IsActive ? ZeroSome() : _moving.IsActive ? MoveSome() : ServeNextQueue();
        RaiseInterrupts();
        return worked;
    }

    /// <summary>
    /// Takes up to a burst of commands from the next queue, in turn, that has some and can be answered.
    /// </summary>
    private bool ServeNextQueue()
    {
        for (int i = 0; i < _submissions.Length; i++)
        {
            int index = _nextQueue;
            _nextQueue = index + 1 == _submissions.Length ? 0 : index + 1;
            if (_submissions[index] is not { } queue) { continue; }
            uint count = Math.Min(Math.Min(queue.ContiguousWaiting, Burst), queue.Completions.Free);
            if (count == 0 || queue.Completions.Waiting.Count != 0) { continue; }
            Serve(queue, (int)count);
            return true;
        }
        return false;
    }

    private void Serve(SubmissionQueue queue, int count)
    {
        Span<ulong> words = _commands.AsSpan(0, count * SubmissionEntry.Bytes / sizeof(ulong));
        if (Dma.Read(queue.HeadAddress, AsBytes(words)) != DmaStatus.Completed)
        {
            Fail();
            return;
        }
        foreach (ref readonly SubmissionEntry command in AsCommands(words))
        {
            queue.Advance();
            Execute(queue, command);
            // What was fetched and not begun is fetched again later: a command may stop the controller or take many
            // steps.
            if (!_isRunning || _isDead || _zeroing.IsActive || _moving.IsActive) { return; }
        }
    }

    private void Execute(SubmissionQueue queue, in SubmissionEntry command)
    {
        if (Misbehave is { } misbehave && MisbehavesOn(misbehave, queue, command)) { return; }
        uint result = 0;
        NvmeStatus? status = command.UsesUnsupportedForm
            ? NvmeStatus.InvalidField | NvmeStatus.DoNotRetry
            : queue.Id == 0 ? ExecuteAdmin(queue, command, out result) : ExecuteIo(queue, command);
        if (status is { } known) { Complete(queue, command, known, result); }
    }

    private void Complete(SubmissionQueue queue, in SubmissionEntry command, NvmeStatus status, uint result = 0)
    {
        if (status != NvmeStatus.Success)
        {
            _logs.AddError(queue.Id, command.CommandId, status, command.StartBlock, command.Namespace);
        }
        Post(queue, command.CommandId, status, result);
        if (_echo is { Queue: { } before } echo && _submissions[before.Id] == before)
        {
            Post(before, echo.Command, NvmeStatus.Success, 0);
        }
        _echo = _completesTwice ? new(queue, command.CommandId, false) : null;
        _completesTwice = false;
    }

    private void Post(SubmissionQueue queue, ushort command, NvmeStatus status, uint result)
    {
        CompletionEntry entry = new(queue.Id, (ushort)queue.Head, command, status, result);
        CompletionQueue ring = queue.Completions;
        if (ring.Waiting.Count != 0 || ring.Free == 0) { ring.Waiting.Enqueue(entry); }
        else { Post(ring, entry); }
    }

    private void Post(CompletionQueue ring, CompletionEntry entry)
    {
        Span<ulong> words = stackalloc ulong[CompletionEntry.Bytes / sizeof(ulong)];
        LogicalAddress slot = ring.Take(out bool phase);
        entry.WithPhase(phase).Store(words);
        if (Dma.Write(slot, AsBytes(words)) != DmaStatus.Completed) { Fail(); }
        else if (ring.Interrupts) { _interruptsDue |= 1UL << ring.Id; }
    }

    /// <summary>Posts what found its ring full, as far as the driver has made room since.</summary>
    private bool PostWaiting()
    {
        bool worked = false;
        foreach (CompletionQueue? ring in _completions)
        {
            while (ring is { Waiting.Count: > 0, Free: > 0 } && _isRunning)
            {
                Post(ring, ring.Waiting.Dequeue());
                worked = true;
            }
        }
        return worked;
    }

    /// <summary>
    /// One message for all the completions that a step posted to a ring: the driver empties the ring anyway.
    /// </summary>
    private void RaiseInterrupts()
    {
        if (_interruptsDue != 0) { UpdatePin(); }
        for (ulong due = _interruptsDue; due != 0; due &= due - 1)
        {
            if (_completions[System.Numerics.BitOperations.TrailingZeroCount(due)] is { } ring)
            {
                RaiseMsix(ring.Vector);
            }
        }
        _interruptsDue = 0;
    }

    private static Span<byte> AsBytes(Span<ulong> words) => System.Runtime.InteropServices.MemoryMarshal.AsBytes(words);

    private static ReadOnlySpan<SubmissionEntry> AsCommands(Span<ulong> words) =>
        System.Runtime.InteropServices.MemoryMarshal.Cast<ulong, SubmissionEntry>(words);
}
