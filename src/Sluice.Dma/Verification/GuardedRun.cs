using System.Diagnostics.CodeAnalysis;

namespace Sluice.Dma;

/// <summary>
/// Pages that stand in for a buffer, one physical run: a page of tags, the buffer's pages, and tags to the run's end.
/// What the buffer does not fill of its own pages is padding.
/// </summary>
internal sealed class GuardedRun
{
    private const int PageLog2 = 12;
    private const int PageSize = 1 << PageLog2;
    private const byte Padding = 0x0F;

    // The tag that Windows' verifier uses, so that who has seen one dump knows the other.
    private static readonly byte[] Tags = [.. Enumerable.Repeat("DmaVrfy0"u8.ToArray(), PageSize / 8).SelectMany(
        static tag => tag)];

    private readonly Mdl _inner;
    private uint _first;
    private uint _length;

    internal GuardedRun(IPlatform platform, PhysicalAddress first, int sizeLog2)
    {
        (First, SizeLog2) = (first, sizeLog2);
        ReadOnlySpan<PhysicalAddress> pages = PagesOf(first, sizeLog2);
        _inner = Mdl.Borrow(platform, pages[1..^1], (uint)(pages.Length - 2) << PageLog2);
        foreach (PhysicalAddress page in pages) { Tags.CopyTo(Bytes(platform, page)); }
    }

    internal PhysicalAddress First { get; }

    internal int SizeLog2 { get; }

    /// <summary>Everything as it must be while nobody uses it.</summary>
    internal bool IsClean(IPlatform platform) => FirstChangedTag(platform, 0, 1 << (SizeLog2 - PageLog2)) < 0;

    /// <summary>Takes the place of a buffer with that many bytes, from that byte of its first page.</summary>
    internal Transfer StandIn(IPlatform platform, in Transfer transfer, uint inPage)
    {
        (_first, _length) = (inPage, transfer.Length);
        for (int page = 1; page <= UsedPages; page++)
        {
            Span<byte> bytes = Bytes(platform, page);
            if (page == 1) { bytes[..(int)inPage].Fill(Padding); }
            if (page == UsedPages) { bytes[EndInPage..].Fill(Padding); }
        }
        Transfer instead = transfer with { Mdl = _inner, Offset = inPage };
        Copy(platform, transfer, instead);
        return instead;
    }

    /// <summary>What was written outside the buffer: the case of the rule, 0 for nothing.</summary>
    /// <param name="platform">The machine.</param>
    /// <param name="distance">How many bytes from the buffer's start or end to the nearest one.</param>
    internal int Damage(IPlatform platform, out long distance)
    {
        int before = Bytes(platform, 1)[..(int)_first].LastIndexOfAnyExcept(Padding);
        if (before >= 0)
        {
            distance = _first - 1 - before;
            return 4;
        }
        int after = Bytes(platform, UsedPages)[EndInPage..].IndexOfAnyExcept(Padding);
        if (after >= 0)
        {
            distance = after;
            return 5;
        }
        if (LastChangedTag(platform) is var early and >= 0)
        {
            distance = PageSize - 1 - early + _first;
            return 1;
        }
        long late = FirstChangedTag(platform, UsedPages + 1, 1 << (SizeLog2 - PageLog2));
        distance = late < 0 ? 0 : late - PageSize - _first - _length;
        return late < 0 ? 0 : 2;
    }

    /// <summary>Tags everything again.</summary>
    internal void Clean(IPlatform platform)
    {
        for (int page = 0; page < 1 << (SizeLog2 - PageLog2); page++) { Tags.CopyTo(Bytes(platform, page)); }
    }

    /// <summary>All of it, for a device that keeps it; free when the MDL is disposed and out of use.</summary>
    internal Mdl ToMdl(IPlatform platform) => Mdl.Adopt(platform, PagesOf(First, SizeLog2));

    /// <summary>Gives its pages back to the machine.</summary>
    internal void Free(IPlatform platform) => LeakedFrames.Of(platform).Give(PagesOf(First, SizeLog2));

    /// <summary>Copies a transfer's bytes into another of the same length.</summary>
    internal static void Copy(IPlatform platform, in Transfer from, in Transfer to)
    {
        PageCursor source = new(from);
        PageCursor target = new(to);
        Span<byte> bytes = default;
        Span<byte> room = default;
        while (true)
        {
            if (bytes.IsEmpty)
            {
                if (!source.Next(out PhysicalAddress page, out uint first, out uint length)) { return; }
                bytes = Bytes(platform, page).Slice((int)first, (int)length);
            }
            if (room.IsEmpty)
            {
                if (!target.Next(out PhysicalAddress page, out uint first, out uint length)) { return; }
                room = Bytes(platform, page).Slice((int)first, (int)length);
            }
            int now = Math.Min(bytes.Length, room.Length);
            bytes[..now].CopyTo(room);
            bytes = bytes[now..];
            room = room[now..];
        }
    }

    private int UsedPages => (int)((_first + (ulong)_length + (PageSize - 1)) >> PageLog2);

    private int EndInPage => (int)((_first + (ulong)_length - 1) & (PageSize - 1)) + 1;

    private int LastChangedTag(IPlatform platform)
    {
        Span<byte> bytes = Bytes(platform, 0);
        int at = PageSize - 1;
        while (at >= 0 && bytes[at] == Tags[at]) { at--; }
        return at;
    }

    // Counted from the run's first byte; -1 for none.
    private long FirstChangedTag(IPlatform platform, int firstPage, int endPage)
    {
        for (int page = firstPage; page < endPage; page++)
        {
            int same = Bytes(platform, page).CommonPrefixLength(Tags);
            if (same < PageSize) { return ((long)page << PageLog2) + same; }
        }
        return -1;
    }

    private Span<byte> Bytes(IPlatform platform, int page) => Bytes(platform, First + ((ulong)page << PageLog2));

    private static Span<byte> Bytes(IPlatform platform, PhysicalAddress page) =>
        platform.Memory.TryGetSpan(page, PageSize, out Span<byte> bytes)
        ? bytes : throw new InvalidOperationException($"the page at {page} is not writable memory");

    private static PhysicalAddress[] PagesOf(PhysicalAddress first, int sizeLog2)
    {
        var pages = new PhysicalAddress[1 << (sizeLog2 - PageLog2)];
        for (int i = 0; i < pages.Length; i++) { pages[i] = first + ((ulong)i << PageLog2); }
        return pages;
    }
}

/// <summary>The guarded runs of one adapter, kept by size. Safe from any thread.</summary>
internal sealed class GuardedRuns(IPlatform platform, PhysicalAddress last)
{
    private const int PageLog2 = 12;

    // 128 MiB: a longer transfer is mapped as it is.
    private const int LargestLog2 = 27;

    private readonly Lock _lock = new();
    private readonly Stack<GuardedRun>[] _free = [.. Enumerable.Range(0, LargestLog2 + 1).Select(
        static _ => new Stack<GuardedRun>())];

    /// <summary>
    /// Copies a transfer's buffer into guarded pages, unless there is no memory for them, or the buffer is one that the
    /// device could not be given as it is: a verifier must not make a wrong program right.
    /// </summary>
    internal bool TryStandIn(
        in Transfer transfer, AdapterVerifier verifier, [NotNullWhen(true)] out GuardedRun? run, out Transfer instead)
    {
        (run, instead) = (null, default);
        PageCursor pages = new(transfer);
        uint? inPage = null;
        while (pages.Next(out PhysicalAddress page, out uint first, out _))
        {
            inPage ??= first;
            if (page + 4095 > last || platform.Frames.KindOf(page) != FrameKind.Buffer
                || !platform.Memory.TryGetSpan(page, 4096, out _)) { return false; }
        }
        ulong wanted = (inPage!.Value + (ulong)transfer.Length + 4095) / 4096 + 2;
        int sizeLog2 = PageLog2;
        while (1UL << (sizeLog2 - PageLog2) < wanted) { sizeLog2++; }
        if (sizeLog2 > LargestLog2) { return false; }
        lock (_lock) { _free[sizeLog2].TryPop(out run); }
        if (run is not null && !run.IsClean(platform))
        {
            verifier.OnFreePageWritten(run);
            run.Clean(platform);
        }
        if (run is null)
        {
            if (!platform.Frames.TryAllocate(FrameKind.Buffer, sizeLog2, out PhysicalAddress at, last))
            {
                return false;
            }
            run = new(platform, at, sizeLog2);
        }
        instead = run.StandIn(platform, transfer, inPage.Value);
        return true;
    }

    internal void Return(GuardedRun run)
    {
        run.Clean(platform);
        lock (_lock) { _free[run.SizeLog2].Push(run); }
    }

    /// <summary>Gives all that is unused back to the machine.</summary>
    internal void Close()
    {
        lock (_lock)
        {
            foreach (Stack<GuardedRun> runs in _free)
            {
                while (runs.TryPop(out GuardedRun? run)) { run.Free(platform); }
            }
        }
    }
}
