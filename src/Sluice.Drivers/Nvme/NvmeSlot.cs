using Sluice.Dma;

namespace Sluice.Drivers.Nvme;

/// <summary>Where a command is on its way.</summary>
internal enum NvmeSlotState : byte
{
    /// <summary>On the free stack, or with the thread that fills it.</summary>
    Idle,

    /// <summary>Its buffer is being mapped, or waits in the adapter's queue for its turn.</summary>
    Mapping,

    /// <summary>The controller has it.</summary>
    InFlight,
}

/// <summary>
/// The place of one command between the rings: its request, its list, and its own request for that list, so that
/// waiting for DMA resources allocates nothing.
/// </summary>
internal sealed class NvmeSlot(NvmeQueuePair queue, int index, DmaAdapter adapter)
{
    // A command id is a slot and how often the slot was used: a controller that completes a command twice then hits
    // nothing, instead of the slot's next command.
    public const int IndexBits = 10;
    private const int UsesMask = 0x3F;
    private int _uses;
    private int _mapper;

    public NvmeQueuePair Queue => queue;

    public int Index => index;

    public ScatterGatherRequest Mapping { get; } = new(adapter);

    public NvmeRequest? Request { get; set; }

    public NvmePiece Piece { get; private set; }

    public ScatterGatherLease List { get; set; }

    /// <summary>The turn of the watchdog at which it came into its present state.</summary>
    public int Tick { get; set; }

    public NvmeSlotState State { get; set; }

    public bool IsAborting { get; set; }

    public bool WasAborted { get; set; }

    public int CommandId => index | ((_uses & UsesMask) << IndexBits);

    /// <summary>Whether this thread is just asking for the list, and goes on by itself when it is refused.</summary>
    public bool IsMappedHere
    {
        get => Volatile.Read(ref _mapper) == Environment.CurrentManagedThreadId;
        set => Volatile.Write(ref _mapper, value ? Environment.CurrentManagedThreadId : 0);
    }

    /// <summary>A new command, under the queue's lock.</summary>
    public void Begin(NvmeRequest request, in NvmePiece piece)
    {
        (Request, Piece, WasAborted) = (request, piece, false);
        _uses++;
    }
}
