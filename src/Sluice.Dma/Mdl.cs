namespace Sluice.Dma;

/// <summary>
/// A memory descriptor list: the page frames of a buffer, in order, wherever they lie, and the bytes of them that are
/// meant. MDLs can be chained into one longer buffer.
/// </summary>
/// <remarks>
/// An MDL either owns its frames (<see cref="Allocate"/>) or borrows them (<see cref="Borrow"/>). Frames it owns go
/// back to the machine at <see cref="Dispose"/>, or, when a transfer over them is still mapped, when the last such
/// transfer is put: memory that a device may write is never handed out again. Frames of a leaked transfer are in
/// quarantine until its release, whoever owns them; then they are their owner's again, or free if it is gone. Reading
/// and copying are safe from any thread; whoever races another thread sees a mixture of bytes. Build a chain before it
/// is used. Bytes belong to the processor or to a device: get hands them over, put hands them back, and in between they
/// are out of bounds here.
/// </remarks>
public sealed partial class Mdl : IDisposable
{
    private const int PageLog2 = 12;
    private const uint PageSize = 1 << PageLog2;
    private const int DisposedBit = int.MinValue;
    private const int LinkBit = 1 << 30;

    private const string DisposedBefore = "the buffer was disposed before it was mapped";

    private readonly IPlatform _platform;
    private readonly PhysicalAddress[] _pages;
    private readonly bool _ownsFrames;

    // The number of mapped transfers over this MDL, the sign bit once it was disposed, and the bit below it while the
    // next part is being linked: what follows a mapped part stays what it is until the last unmap.
    private int _pins;
    private Mdl? _next;

    private Mdl(IPlatform platform, PhysicalAddress[] pages, int byteOffset, uint byteCount, bool ownsFrames)
    {
        (_platform, _pages, _ownsFrames) = (platform, pages, ownsFrames);
        (ByteOffset, ByteCount) = (byteOffset, byteCount);
    }

    /// <summary>The page frames, in order; each address is that of the frame's first byte.</summary>
    public ReadOnlySpan<PhysicalAddress> Pages => _pages;

    /// <summary>The same, for whoever remembers them: they never change.</summary>
    internal ReadOnlyMemory<PhysicalAddress> LastingPages => _pages;

    /// <summary>Where in the first page the buffer starts, 0 to 4095.</summary>
    public int ByteOffset { get; }

    /// <summary>Bytes in this MDL alone, without the rest of its chain.</summary>
    public uint ByteCount { get; }

    /// <summary>The MDL that continues this buffer, or null. Each is owned and disposed separately.</summary>
    /// <exception cref="InvalidOperationException">Another one is linked while transfers over this MDL are mapped:
    /// they end with the chain that they began with.</exception>
    public Mdl? Next
    {
        get => Volatile.Read(ref _next);
        set
        {
            if (value == Next) { return; }
            int before = BeginLink();
            Volatile.Write(ref _next, value);
            EndLink(before);
        }
    }

    /// <summary>Bytes from here to the end of the chain.</summary>
    /// <exception cref="InvalidOperationException">The chain leads back to itself.</exception>
    public ulong ChainByteCount
    {
        get
        {
            ulong bytes = ByteCount;
            ChainGuard guard = new(this);
            for (Mdl? part = Next; part is not null; part = part.Next)
            {
                if (guard.IsBackAt(part)) { throw Endless(); }
                bytes += part.ByteCount;
            }
            return bytes;
        }
    }

    /// <summary>Transfers over this MDL that are mapped now.</summary>
    public int MappedTransfers => Volatile.Read(ref _pins) & (LinkBit - 1);

    /// <summary>A zeroed buffer of <paramref name="length"/> bytes in scattered frames of its own.</summary>
    /// <param name="platform">The machine to take them from.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="offset">Where in the first page it starts, 0 to 4095.</param>
    /// <exception cref="DmaException">The machine has no frames left
    /// (<see cref="DmaFailure.OutOfResources"/>).</exception>
    public static Mdl Allocate(IPlatform platform, uint length, int offset = 0)
    {
        ArgumentNullException.ThrowIfNull(platform);
        var pages = new PhysicalAddress[PagesOf(length, offset)];
        for (int i = 0; i < pages.Length; i++)
        {
            if (platform.Frames.TryAllocate(FrameKind.Buffer, PageLog2, out pages[i])) { continue; }
            while (i-- > 0) { platform.Frames.Free(pages[i], PageLog2); }
            throw new DmaException(DmaFailure.OutOfResources, $"no memory for a buffer of {length} bytes");
        }
        return new(platform, pages, offset, length, ownsFrames: true);
    }

    /// <summary>An MDL over frames that someone else owns and keeps until every transfer over them is put.</summary>
    /// <param name="platform">The machine they belong to.</param>
    /// <param name="pages">Exactly the frames that <paramref name="offset"/> and <paramref name="length"/> span, page
    /// aligned.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="offset">Where in the first page the buffer starts, 0 to 4095.</param>
    /// <exception cref="ArgumentException">A frame is unaligned, or there are too few or too many.</exception>
    public static Mdl Borrow(IPlatform platform, ReadOnlySpan<PhysicalAddress> pages, uint length, int offset = 0)
    {
        ArgumentNullException.ThrowIfNull(platform);
        if (pages.Length != PagesOf(length, offset))
        {
            int spanned = PagesOf(length, offset);
            throw new ArgumentException(
                $"{length} bytes from offset {offset} span {spanned} pages, not {pages.Length}", nameof(pages));
        }
        foreach (PhysicalAddress page in pages)
        {
            if (page.IsAligned(PageLog2)) { continue; }
            throw new ArgumentException($"{page} is not the address of a page", nameof(pages));
        }
        return new(platform, pages.ToArray(), offset, length, ownsFrames: false);
    }

    /// <summary>An MDL that owns frames which were taken elsewhere, from the first byte of the first.</summary>
    internal static Mdl Adopt(IPlatform platform, PhysicalAddress[] pages) =>
        new(platform, pages, 0, (uint)pages.Length << PageLog2, ownsFrames: true);

    // A pinned MDL keeps its bytes after Dispose: a transfer that ends then still copies into them.
    private Span<byte> SpanAt(uint offset)
    {
        ulong position = (ulong)ByteOffset + offset;
        uint inPage = (uint)position & (PageSize - 1);
        uint length = Math.Min(PageSize - inPage, ByteCount - offset);
        PhysicalAddress first = _pages[position >> PageLog2] + inPage;
        return _platform.Memory.TryGetSpan(first, (int)length, out Span<byte> span)
            ? span
            : throw new InvalidOperationException($"the buffer's page at {first} is not writable memory");
    }

    /// <summary>
    /// Gives owned frames back: now, or when the last mapped transfer over them is put. Harmless twice.
    /// </summary>
    public void Dispose()
    {
        if (Interlocked.Or(ref _pins, DisposedBit) == 0) { FreeFrames(); }
    }

    /// <summary>Whether it was disposed, mapped or not.</summary>
    internal bool IsDisposed => Volatile.Read(ref _pins) < 0;

    // Keeps the frames of this MDL and of its chain from being freed while a device may reach them.
    internal void PinChain()
    {
        if (!TryPin()) { throw new ObjectDisposedException(nameof(Mdl), DisposedBefore); }
        if (Next is not null) { PinRest(); }
    }

    internal void UnpinChain()
    {
        for (Mdl? part = this; part is not null;)
        {
            Mdl? next = part.Next;
            part.Unpin();
            part = next;
        }
    }

    // The frames of this MDL and of its chain.
    internal PhysicalAddress[] PagesOfChain()
    {
        if (Next is null) { return _pages; }
        List<PhysicalAddress> pages = [];
        for (Mdl? part = this; part is not null; part = part.Next) { pages.AddRange(part._pages); }
        return [.. pages];
    }

    // From here on the chain is what it is: the links of pinned parts do not change.
    private void PinRest()
    {
        ChainGuard guard = new(this);
        int pinned = 1;
        for (Mdl? part = Next; part is not null; part = part.Next, pinned++)
        {
            bool endless = guard.IsBackAt(part);
            if (!endless && part.TryPin()) { continue; }
            for (Mdl? undo = this; pinned > 0; pinned--)
            {
                Mdl? next = undo!.Next;
                undo.Unpin();
                undo = next;
            }
            throw endless ? Endless() : new ObjectDisposedException(nameof(Mdl), DisposedBefore);
        }
    }

    // Never counts up once disposed: whoever took that back would free the frames a second time.
    private bool TryPin()
    {
        SpinWait spin = default;
        while (true)
        {
            int pins = Volatile.Read(ref _pins);
            if (pins < 0) { return false; }
            if (pins >= LinkBit) { spin.SpinOnce(sleep1Threshold: -1); }
            else if (Interlocked.CompareExchange(ref _pins, pins + 1, pins) == pins) { return true; }
        }
    }

    // Nobody pins this part until EndLink.
    private int BeginLink()
    {
        SpinWait spin = default;
        while (true)
        {
            int pins = Volatile.Read(ref _pins);
            if ((pins & (LinkBit - 1)) is int mapped and not 0)
            {
                throw new InvalidOperationException($"another MDL is linked to one that {mapped} mapped "
                    + $"transfer{(mapped == 1 ? " covers" : "s cover")}: put the list first");
            }
            if ((pins & LinkBit) != 0) { spin.SpinOnce(sleep1Threshold: -1); }
            else if (Interlocked.CompareExchange(ref _pins, pins | LinkBit, pins) == pins) { return pins; }
        }
    }

    private void EndLink(int before)
    {
        // Who disposed it meanwhile left the frames to this thread.
        if ((Interlocked.And(ref _pins, ~LinkBit) & ~before) < 0) { FreeFrames(); }
    }

    private static InvalidOperationException Endless() => new("the chain of MDLs leads back to itself and has no end");

    private void Unpin()
    {
        if (Interlocked.Decrement(ref _pins) == DisposedBit) { FreeFrames(); }
    }

    // What somebody leaked, over this MDL or another one of the same frames, becomes free when that is over.
    private void FreeFrames()
    {
        if (_ownsFrames) { LeakedFrames.Of(_platform).Give(_pages); }
    }

    // Brent: the hare is compared with where it was 2^n steps ago, so a loop is noticed within three rounds of it.
    private struct ChainGuard(Mdl first)
    {
        private Mdl _mark = first;
        private uint _steps;
        private uint _limit = 1;

        internal bool IsBackAt(Mdl part)
        {
            if (part == _mark) { return true; }
            if (++_steps == _limit) { (_mark, _steps, _limit) = (part, 0, _limit * 2); }
            return false;
        }
    }

    private static int PagesOf(uint length, int offset)
    {
        ArgumentOutOfRangeException.ThrowIfZero(length);
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)offset, PageSize, nameof(offset));
        return (int)(((ulong)offset + length + PageSize - 1) >> PageLog2);
    }
}
