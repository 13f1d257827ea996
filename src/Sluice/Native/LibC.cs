using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sluice;

/// <summary>The few calls of Linux that the runtime has no words for. Errors are in the last P/Invoke error.</summary>
internal static unsafe partial class LibC
{
    /// <summary>Opens a name without its content: nothing blocks, no device notices, no right to read is needed.</summary>
    public const int OpenPath = 0x20_0000;

    /// <summary>The descriptor is no child's.</summary>
    public const int CloseOnExec = 0x8_0000;

    /// <summary>For <see cref="Seek"/>: from the end.</summary>
    public const int SeekEnd = 2;

    private const int EmptyPath = 0x1000;
    private const uint WantType = 1;
    private const int StatxBytes = 256;
    private const int StatxMode = 28;

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    public static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "lseek", SetLastError = true)]
    public static partial long Seek(SafeFileHandle file, long offset, int origin);

    [LibraryImport("libc", EntryPoint = "memfd_create", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    public static partial int CreateMemoryFile(string name, uint flags);

    /// <summary>Changes what a part of a file takes of its file system; mode 0 takes the room that it needs.</summary>
    [LibraryImport("libc", EntryPoint = "fallocate", SetLastError = true)]
    public static partial int Allocate(SafeFileHandle file, int mode, long offset, long length);

    [LibraryImport("libc", EntryPoint = "statx", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    private static partial int Statx(SafeFileHandle folder, string path, int flags, uint mask, byte* answer);

    /// <summary>The kind of an open file, the <c>S_IFMT</c> bits of its mode; -1 on an error.</summary>
    public static int KindOf(SafeFileHandle file)
    {
        // struct statx is the same on every processor, unlike struct stat: its mode is the 16-bit word at byte 28.
        const int KindBits = 0xF000;
        byte* answer = stackalloc byte[StatxBytes];
        return Statx(file, "", EmptyPath, WantType, answer) == 0 ? *(ushort*)(answer + StatxMode) & KindBits : -1;
    }
}
