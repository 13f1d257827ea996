using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sluice;

/// <summary>
/// Files that hold bytes and nothing else. What is no regular file and no block device (a pipe, a socket, a terminal, a
/// folder) is refused before it is opened, so that opening never blocks and no device is touched; and a name is a name,
/// whatever characters are in it. Safe from any thread.
/// </summary>
/// <remarks>
/// On Linux all of that holds. Elsewhere the system's own open decides, and what cannot be positioned is refused after
/// it.
/// </remarks>
public static class PlainFile
{
    private const int Regular = 0x8000;
    private const int BlockDevice = 0x6000;

    /// <summary>Opens what is there already.</summary>
    /// <param name="path">The file.</param>
    /// <param name="writable">Open it for writing too.</param>
    /// <returns>The file, the caller's to dispose.</returns>
    /// <exception cref="IOException">It is missing, no regular file or block device, or does not open.</exception>
    /// <exception cref="UnauthorizedAccessException">The system does not let us.</exception>
    public static SafeFileHandle Open(string path, bool writable)
    {
        ArgumentNullException.ThrowIfNull(path);
        if (path.Length == 0) { throw new IOException("no name was given"); }
        if (path.Contains('\0', StringComparison.Ordinal)) { throw new IOException("no name has a zero byte in it"); }
        if (!OperatingSystem.IsLinux()) { return OpenElsewhere(path, writable); }
        using SafeFileHandle name = new(LibC.Open(path, LibC.OpenPath | LibC.CloseOnExec), ownsHandle: true);
        int kind = name.IsInvalid ? -1 : LibC.KindOf(name);
        if (kind < 0) { throw Failure(path, Marshal.GetLastPInvokeErrorMessage(), Marshal.GetLastPInvokeError()); }
        if (kind is not (Regular or BlockDevice)) { throw new IOException($"'{path}' is {Describe(kind)}"); }
        try
        {
            // The very file that was looked at, not what its name leads to by now.
            return OpenManaged(PathOf(name), writable);
        }
        catch (UnauthorizedAccessException) { throw new UnauthorizedAccessException($"'{path}': Permission denied"); }
        catch (IOException error)
        {
            throw new IOException($"'{path}': {error.Message.Replace(PathOf(name), path, StringComparison.Ordinal)}");
        }
    }

    /// <summary>Its size in bytes: a block device's is that of the device.</summary>
    /// <exception cref="IOException">The system does not tell.</exception>
    public static long LengthOf(SafeFileHandle file)
    {
        ArgumentNullException.ThrowIfNull(file);
        if (!IsBlockDevice(file)) { return RandomAccess.GetLength(file); }
        long length = LibC.Seek(file, 0, LibC.SeekEnd);
        return length >= 0 ? length : throw new IOException(Marshal.GetLastPInvokeErrorMessage());
    }

    /// <summary>Whether it is a block device; else it is a regular file.</summary>
    public static bool IsBlockDevice(SafeFileHandle file) =>
        OperatingSystem.IsLinux() && LibC.KindOf(file) == BlockDevice;

    /// <summary>
    /// A name by which any process of this user opens an open file again, while this process lives and has it open:
    /// digits and slashes, whatever the file was called. Linux.
    /// </summary>
    public static string PathOf(SafeFileHandle file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return string.Create(
            CultureInfo.InvariantCulture, $"/proc/{Environment.ProcessId}/fd/{(long)file.DangerousGetHandle()}");
    }

    /// <summary>
    /// A file of zeros without a name, so that nothing of it can be left behind, however the process ends, and with the
    /// room that it needs, so that no store to it can fail once it is mapped.
    /// </summary>
    /// <remarks>
    /// On Linux it lies in memory, in no folder that could be full: pages are taken as they are written to, or all at
    /// once where the system promises no more than it has. Elsewhere, and where memory is refused, it lies in the
    /// temporary folder with all its room reserved.
    /// </remarks>
    /// <param name="length">Its size in bytes.</param>
    /// <returns>The file, open for reading and writing; the caller's to dispose.</returns>
    /// <exception cref="IOException">There is no room for it.</exception>
    /// <exception cref="UnauthorizedAccessException">The system does not let us.</exception>
    public static SafeFileHandle CreateNameless(long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        return (OperatingSystem.IsLinux() ? InMemory(length) : null) ?? InTemporaryFolder(length);
    }

    private static SafeFileHandle? InMemory(long length)
    {
        const uint CloseOnExec = 1;
        SafeFileHandle file = new(LibC.CreateMemoryFile("sluice", CloseOnExec), ownsHandle: true);
        if (!file.IsInvalid)
        {
            try
            {
                RandomAccess.SetLength(file, length);
                if (!CommitsStrictly() || LibC.Allocate(file, 0, 0, length) == 0) { return file; }
            }
            catch (IOException) { }
        }
        file.Dispose();
        return null;
    }

    // In this mode a page of a memory file that was only promised may be refused when it is touched, which ends the
    // process (proc(5), overcommit_memory).
    private static bool CommitsStrictly()
    {
        const string Setting = "/proc/sys/vm/overcommit_memory";
        return File.Exists(Setting) && File.ReadAllText(Setting).StartsWith('2');
    }

    private static SafeFileHandle InTemporaryFolder(long length)
    {
        // A folder of our own: nobody else opens what is in it.
        DirectoryInfo folder = Directory.CreateTempSubdirectory("sluice-");
        SafeFileHandle? file = null;
        try
        {
            // Asking for the room when the file is made is what reserves it.
            file = File.OpenHandle(
                Path.Combine(folder.FullName, "file"), FileMode.CreateNew, FileAccess.ReadWrite,
                FileShare.ReadWrite | FileShare.Delete, FileOptions.DeleteOnClose, length);
            if (!OperatingSystem.IsWindows()) { folder.Delete(recursive: true); }
            RandomAccess.SetLength(file, length);
            return file;
        }
        catch
        {
            file?.Dispose();
            if (Directory.Exists(folder.FullName)) { folder.Delete(recursive: true); }
            throw;
        }
    }

    private static SafeFileHandle OpenElsewhere(string path, bool writable)
    {
        if (Directory.Exists(path)) { throw new IOException($"'{path}' is a folder"); }
        SafeFileHandle? file = null;
        try
        {
            file = OpenManaged(path, writable);
            _ = RandomAccess.GetLength(file);
            return file;
        }
        catch (Exception error) when (error is NotSupportedException or ArgumentException)
        {
            // What cannot be positioned, or what that system takes for no name.
            file?.Dispose();
            throw new IOException($"'{path}' is not a plain file", error);
        }
    }

    private static SafeFileHandle OpenManaged(string path, bool writable) => File.OpenHandle(
        path, FileMode.Open, writable ? FileAccess.ReadWrite : FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);

    private static Exception Failure(string path, string message, int error)
    {
        const int NoEntry = 2, NoPermission = 1, NoAccess = 13;
        string line = $"'{path}': {message}";
        return error switch
        {
            NoEntry => new FileNotFoundException(line),
            NoPermission or NoAccess => new UnauthorizedAccessException(line),
            _ => new IOException(line),
        };
    }

    private static string Describe(int kind) => kind switch
    {
        0x4000 => "a folder",
        0x1000 => "a pipe, which has no beginning and no length",
        0xC000 => "a socket",
        0x2000 => "a character device, which has no length",
        _ => "not a plain file",
    };
}
