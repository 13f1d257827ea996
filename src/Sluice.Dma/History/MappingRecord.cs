namespace Sluice.Dma;

/// <summary>Where a mapping stands.</summary>
public enum MappingState : byte
{
    /// <summary>The device may reach it.</summary>
    Live,

    /// <summary>Being given back at this moment.</summary>
    Closing,

    /// <summary>Given back.</summary>
    Unmapped,

    /// <summary>Never given back: its memory and addresses are in quarantine.</summary>
    Leaked,
}

/// <summary>A place in a driver's source.</summary>
/// <param name="Member">The method.</param>
/// <param name="File">The source file as the compiler knew it, or empty.</param>
public readonly record struct CallSite(string Member, string File)
{
    /// <summary>As <c>NvmeQueuePair.SubmitRead</c>: the file's name up to its first dot, and the member.</summary>
    public override string ToString()
    {
        if (string.IsNullOrEmpty(File)) { return Member ?? ""; }
        ReadOnlySpan<char> name = File.AsSpan()[(File.AsSpan().LastIndexOfAny('/', '\\') + 1)..];
        int dot = name.IndexOf('.');
        return $"{(dot < 0 ? name : name[..dot])}.{Member}";
    }
}

/// <summary>A mapping as the history remembers it: a copy, consistent in itself.</summary>
public readonly record struct MappingRecord
{
    /// <summary>Counts up per adapter from 1; never reused.</summary>
    public long Number { get; init; }

    /// <summary>The driver that owns the adapter.</summary>
    public string Owner { get; init; }

    /// <summary>The device that may reach it.</summary>
    public PciAddress Device { get; init; }

    /// <summary>The first byte of the buffer.</summary>
    public LogicalAddress First { get; init; }

    /// <summary>Bytes in the buffer, at least 1.</summary>
    public ulong Length { get; init; }

    /// <summary>Every page opened for it: more than the buffer where the buffer does not fill its pages.</summary>
    public LogicalRange Reach { get; init; }

    /// <summary>
    /// The last byte of the closed pages behind it that nobody else gets while it is mapped; the last of
    /// <see cref="Reach"/> without any.
    /// </summary>
    public LogicalAddress GuardLast { get; init; }

    /// <summary>Which way the data goes.</summary>
    public DmaDirection Direction { get; init; }

    /// <summary>Whether the buffer is one logical run, so that offsets into it can be told from addresses.</summary>
    public bool IsContiguous { get; init; }

    /// <summary>Whether it is a common buffer.</summary>
    public bool IsCommonBuffer { get; init; }

    /// <summary>Where it stands.</summary>
    public MappingState State { get; init; }

    /// <summary>Whether the device may reach it: live, or leaked.</summary>
    public bool IsLive => State is MappingState.Live or MappingState.Leaked;

    /// <summary>The number the driver gave its request.</summary>
    public uint Tag { get; init; }

    /// <summary>Who asked for it.</summary>
    public CallSite MapSite { get; init; }

    /// <summary>Who gave it back; empty while it is live.</summary>
    public CallSite UnmapSite { get; init; }

    /// <summary>When it was given back, on the platform clock, or a little earlier; 0 while it is live.</summary>
    public long UnmappedNanoseconds { get; init; }

    /// <summary>
    /// Whether <see cref="UnmappedNanoseconds"/> is the time itself and not a lower bound, as it is where puts follow
    /// fast.
    /// </summary>
    public bool UnmappedExactly { get; init; }

    /// <summary>
    /// The last number that its adapter had given out when it was closed: the order of ends, whatever the clock says.
    /// The highest number while it is closing, 0 while it is live.
    /// </summary>
    internal long ClosedAt { get; init; }

    /// <summary>
    /// Tells its adapter apart from every other, also from a later one of the same device: numbers of two adapters have
    /// no order. The later adapter has the higher one.
    /// </summary>
    internal long AdapterSerial { get; init; }

    /// <summary>
    /// Whether it ended after another: by the order of events where both are of one adapter, else by the clock. Neither
    /// is live.
    /// </summary>
    internal bool IsLaterThan(in MappingRecord other)
    {
        if (AdapterSerial == other.AdapterSerial)
        {
            return ClosedAt != other.ClosedAt ? ClosedAt > other.ClosedAt : Number > other.Number;
        }
        (long end, long otherEnd) = (End, other.End);
        return end != otherEnd ? end > otherEnd : AdapterSerial > other.AdapterSerial;
    }

    private long End => State == MappingState.Closing ? long.MaxValue : UnmappedNanoseconds;
}
