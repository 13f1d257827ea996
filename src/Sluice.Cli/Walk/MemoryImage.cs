using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sluice.Cli.Walk;

/// <summary>
/// A file of raw physical memory, read page by page as a walk asks for it and never mapped: a file that somebody
/// shortens meanwhile is then damage, where a mapping would be the end of the process. For one thread.
/// </summary>
internal sealed class MemoryImage : IDisposable
{
    private const int PageLog2 = 12;
    private const int PageBytes = 1 << PageLog2;

    // A walk goes down a few tables at a time; the pages read last are enough.
    private const int CachedPages = 256;
    private readonly SafeFileHandle _file;
    private readonly byte[] _pages = new byte[CachedPages * PageBytes];
    private readonly long[] _cached = new long[CachedPages];

    private MemoryImage(SafeFileHandle file, PhysicalRange range)
    {
        (_file, Range) = (file, range);
        _cached.AsSpan().Fill(-1);
    }

    /// <summary>The memory.</summary>
    public ImageMemory Memory => new(this);

    /// <summary>What the file held when it was opened.</summary>
    public PhysicalRange Range { get; }

    /// <summary>Why some of it could not be read; null when all that was asked for could be.</summary>
    public string? Problem { get; private set; }

    /// <summary>Opens an image whose first byte is at <paramref name="first"/>.</summary>
    public static MemoryImage Open(string path, PhysicalAddress first)
    {
        if (!first.IsAligned(PageLog2))
        {
            throw new CommandException($"--base lies at a multiple of {PageBytes} bytes, not at {first}");
        }
        SafeFileHandle? file = null;
        try
        {
            file = PlainFile.Open(path, writable: false);
            ulong length = (ulong)PlainFile.LengthOf(file);
            if (length == 0) { throw new CommandException($"--image {path} is empty"); }
            if (length - 1 > ulong.MaxValue - first.Value)
            {
                throw new CommandException($"--base {first} puts the image's end beyond 2^64");
            }
            return new(file, new(first, first + (length - 1)));
        }
        catch (Exception error)
        {
            file?.Dispose();
            if (!ErrorText.IsOfAFile(error)) { throw; }
            throw new CommandException($"cannot read the image: {ErrorText.Of(error)}");
        }
    }

    /// <summary>Fills <paramref name="destination"/>; false unless the image holds all of it.</summary>
    public bool TryRead(PhysicalAddress address, Span<byte> destination)
    {
        if (destination.IsEmpty) { return true; }
        if (address < Range.First || address > Range.Last || Range.Last - address < (ulong)destination.Length - 1)
        {
            return false;
        }
        for (ulong offset = address - Range.First; !destination.IsEmpty;)
        {
            int inPage = (int)(offset & (PageBytes - 1));
            int count = Math.Min(destination.Length, PageBytes - inPage);
            if (!TryLoad((long)(offset >> PageLog2), inPage + count, out ReadOnlySpan<byte> page)) { return false; }
            page.Slice(inPage, count).CopyTo(destination);
            destination = destination[count..];
            offset += (ulong)count;
        }
        return true;
    }

    // The last page of a file need not be whole: what is not there is not asked for.
    private bool TryLoad(long page, int needed, out ReadOnlySpan<byte> bytes)
    {
        int slot = (int)(page % CachedPages);
        Span<byte> room = _pages.AsSpan(slot * PageBytes, PageBytes);
        bytes = room;
        if (_cached[slot] == page) { return true; }
        _cached[slot] = -1;
        int read = 0;
        try
        {
            for (int more = 1; more > 0 && read < PageBytes; read += more)
            {
                more = RandomAccess.Read(_file, room[read..], (page << PageLog2) + read);
            }
        }
        catch (Exception error) when (ErrorText.IsOfAFile(error))
        {
            Problem ??= ErrorText.Of(error);
        }
        if (read < needed)
        {
            Problem ??= "it is shorter than it was when it was opened";
            return false;
        }
        bool isWhole = read == PageBytes || (ulong)((page << PageLog2) + read) > Range.Last - Range.First;
        if (isWhole) { _cached[slot] = page; }
        return true;
    }

    /// <summary>Closes it.</summary>
    public void Dispose() => _file.Dispose();
}

/// <summary>An image as memory: words where they are aligned, and no stores.</summary>
internal readonly struct ImageMemory(MemoryImage image) : IPhysicalMemory
{
    /// <inheritdoc/>
    public bool TryRead64(PhysicalAddress address, out ulong value)
    {
        value = 0;
        return address.IsAligned(3)
            && image.TryRead(address, MemoryMarshal.AsBytes(MemoryMarshal.CreateSpan(ref value, 1)));
    }

    /// <inheritdoc/>
    public bool TryRead32(PhysicalAddress address, out uint value)
    {
        value = 0;
        return address.IsAligned(2)
            && image.TryRead(address, MemoryMarshal.AsBytes(MemoryMarshal.CreateSpan(ref value, 1)));
    }

    /// <inheritdoc/>
    public bool TryRead(PhysicalAddress address, Span<byte> destination) => image.TryRead(address, destination);

    /// <inheritdoc/>
    public bool TryWrite64(PhysicalAddress address, ulong value) => false;

    /// <inheritdoc/>
    public bool TryWrite32(PhysicalAddress address, uint value) => false;

    /// <inheritdoc/>
    public bool TryWrite(PhysicalAddress address, ReadOnlySpan<byte> source) => source.IsEmpty;

    /// <inheritdoc/>
    public bool TryCompareExchange64(PhysicalAddress address, ulong comparand, ulong value, out ulong observed)
    {
        observed = 0;
        return false;
    }
}
