namespace Sluice.Dma.Wdm;

/// <summary>
/// The opaque context of a version 3 request: what CancelAdapterChannel and CancelMappedTransfer name it by. A driver
/// keeps one for each request it may have outstanding, and initialises it before each.
/// </summary>
public sealed class DmaTransferContext
{
    /// <summary>DMA_TRANSFER_CONTEXT_SIZE_V1, in bytes.</summary>
    public const int SizeV1 = 128;

    private readonly Lock _lock = new();
    private State _state;
    private object? _request;

    // Who set it up: it is of no use with another.
    private WdmAdapter? _adapter;

    // Who counts it while it stands for a request; null while verification is off.
    private AdapterVerifier? _verifier;

    private enum State
    {
        Unknown,
        Initialized,
        Waiting,
        Granted,
        Withdrawn,
    }

    /// <summary>CancelMappedTransfer was called: nothing more is mapped with it.</summary>
    internal bool IsPoisoned { get; private set; }

    /// <summary>The map registers or list that were granted; null before and after.</summary>
    internal object? Grant
    {
        get
        {
            lock (_lock) { return _state == State.Granted ? _request : null; }
        }
    }

    /// <summary>The adapter that set it up last, or null.</summary>
    internal WdmAdapter? Adapter
    {
        get
        {
            lock (_lock) { return _adapter; }
        }
    }

    internal NtStatus Initialize(WdmAdapter adapter)
    {
        lock (_lock)
        {
            if (_state is State.Waiting or State.Granted) { return NtStatus.InvalidParameter; }
            (_adapter, _state, _request, IsPoisoned) = (adapter, State.Initialized, null, false);
            return NtStatus.Success;
        }
    }

    /// <summary>The context now stands for a request. Cancelled when the driver withdrew it beforehand.</summary>
    /// <param name="adapter">Whose request it is: of the adapter that set the context up.</param>
    /// <param name="request">The request.</param>
    /// <param name="verifier">Counts contexts that are not ended; null for none.</param>
    internal NtStatus Begin(WdmAdapter adapter, object request, AdapterVerifier? verifier)
    {
        NtStatus status = Begin(adapter, request);
        if (!status.IsSuccess() || verifier is null) { return status; }
        _verifier = verifier;
        verifier.OnTook(DmaResource.TransferContext, this, 1, default);
        return status;
    }

    private NtStatus Begin(WdmAdapter adapter, object request)
    {
        lock (_lock)
        {
            if (_adapter != adapter) { return NtStatus.InvalidParameter; }
            switch (_state)
            {
                case State.Initialized:
                    (_state, _request) = (State.Waiting, request);
                    return NtStatus.Success;
                case State.Withdrawn:
                    (_state, _request) = (State.Unknown, null);
                    return NtStatus.Cancelled;
                default:
                    return NtStatus.InvalidParameter;
            }
        }
    }

    internal void Granted(object grant)
    {
        lock (_lock) { (_state, _request) = (State.Granted, grant); }
    }

    /// <summary>The request is over; the context must be initialised before the next.</summary>
    internal void End()
    {
        lock (_lock) { (_state, _request) = (State.Unknown, null); }
        Interlocked.Exchange(ref _verifier, null)?.OnGaveBack(DmaResource.TransferContext, this, default);
    }

    /// <summary>
    /// The request that waits, to be withdrawn; null when none does. A context without a request remembers to refuse
    /// its next one.
    /// </summary>
    internal object? Withdraw(out bool beforehand)
    {
        lock (_lock)
        {
            beforehand = _state is State.Initialized or State.Withdrawn;
            if (beforehand) { _state = State.Withdrawn; }
            return _state == State.Waiting ? _request : null;
        }
    }

    // A full fence: whoever poisons looks for a transfer to stop next, and whoever starts one looks here next.
    internal void Poison()
    {
        IsPoisoned = true;
        Interlocked.MemoryBarrier();
    }

    /// <summary>
    /// Map registers that are kept for many requests outlive the one that was cancelled: the next is a new one.
    /// </summary>
    internal void Renew() => IsPoisoned = false;
}
