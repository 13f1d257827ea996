using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sluice;

// Rules of this folder, the only one in the house that may say "unsafe":
//  1. A pointer is formed only after its whole access was checked against the block's length, with arithmetic that
//     cannot wrap.
//  2. No managed reference or span to memory that a device changes lives longer than one operation, except where the
//     caller was told that the bytes may change under it.
//  3. Words shared with a device are read and written through Volatile or Interlocked, aligned, in one access.
//  4. A block is freed only by Dispose, after every thread that uses it has stopped; the finalizer of a leaked block
//     leaves its memory alone, because a device may still write there.

/// <summary>
/// Memory outside the garbage collector's heap: zeroed pages of this process, a file mapped and shared, or somebody
/// else's.
/// </summary>
public sealed unsafe class NativeBlock : IDisposable
{
    private const int PageLog2 = 12;
    private void* _allocation;
    private MemoryMappedFile? _file;
    private MemoryMappedViewAccessor? _view;

    private NativeBlock(byte* start, ulong length)
    {
        Start = start;
        Length = length;
    }

    /// <summary>The size in bytes; 0 once disposed.</summary>
    public ulong Length { get; private set; }

    /// <summary>The first byte, aligned to a page.</summary>
    internal byte* Start { get; private set; }

    /// <summary>Whose memory it is; null when it is the block's own.</summary>
    internal object? Owner { get; private set; }

    /// <summary>Zeroed private memory; pages cost nothing until touched.</summary>
    /// <exception cref="OutOfMemoryException">The system refuses.</exception>
    public static NativeBlock Allocate(ulong length)
    {
        ArgumentOutOfRangeException.ThrowIfZero(length);
        const nuint Slack = 1 << PageLog2;
        void* raw = NativeMemory.AllocZeroed(checked((nuint)length + Slack));
        nuint aligned = ((nuint)raw + Slack - 1) & ~(Slack - 1);
        return new((byte*)aligned, length) { _allocation = raw };
    }

    /// <summary>
    /// Maps <paramref name="length"/> bytes of a file from its start, shared with everyone who maps it.
    /// </summary>
    /// <remarks>
    /// An access to a page that the file has lost, or that has no room, ends the process. So only a file that nobody
    /// else shortens is mapped, with its room there (<see cref="PlainFile.CreateNameless"/>); others are read.
    /// </remarks>
    /// <param name="file">An open file; the block keeps its own reference.</param>
    /// <param name="length">Bytes to map, at most the file's length.</param>
    /// <exception cref="IOException">The system refuses.</exception>
    public static NativeBlock Map(SafeFileHandle file, ulong length)
    {
        ArgumentNullException.ThrowIfNull(file);
        ArgumentOutOfRangeException.ThrowIfZero(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, (ulong)RandomAccess.GetLength(file));
        const MemoryMappedFileAccess Access = MemoryMappedFileAccess.ReadWrite;
        MemoryMappedFile map = MemoryMappedFile.CreateFromFile(
            file, null, 0, Access, HandleInheritability.None, leaveOpen: true);
        MemoryMappedViewAccessor view = map.CreateViewAccessor(0, checked((long)length), Access);
        SafeMemoryMappedViewHandle handle = view.SafeMemoryMappedViewHandle;
        byte* start = null;
        handle.AcquirePointer(ref start);
        return new(start + view.PointerOffset, length) { _file = map, _view = view };
    }

    /// <summary>
    /// Memory that belongs to somebody else: a host's guest memory, a mapping of its own. Nothing here frees it.
    /// </summary>
    /// <param name="start">The first byte, aligned to a page of 4 KiB.</param>
    /// <param name="length">Bytes from there on, all of which may be read and written until the block is
    /// disposed.</param>
    /// <param name="owner">Whose it is. It stays reachable as long as the block, so no finalizer frees it.</param>
    /// <exception cref="ArgumentException">The start is zero or not aligned.</exception>
    public static NativeBlock Borrow(nint start, ulong length, object owner)
    {
        ArgumentOutOfRangeException.ThrowIfZero(length);
        ArgumentNullException.ThrowIfNull(owner);
        if (start == 0 || (start & ((1 << PageLog2) - 1)) != 0)
        {
            throw new ArgumentException($"borrowed memory begins at a page, not at 0x{start:X}", nameof(start));
        }
        return new((byte*)start, length) { Owner = owner };
    }

    /// <summary>Frees, unmaps or gives back. Every user must have stopped.</summary>
    public void Dispose()
    {
        Length = 0;
        Start = null;
        if (_allocation != null)
        {
            NativeMemory.Free(_allocation);
            _allocation = null;
        }
        if (_view is not null)
        {
            _view.SafeMemoryMappedViewHandle.ReleasePointer();
            _view.Dispose();
            _view = null;
        }
        _file?.Dispose();
        _file = null;
        Owner = null;
    }
}
