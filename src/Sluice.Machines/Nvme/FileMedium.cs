using Microsoft.Win32.SafeHandles;

namespace Sluice.Machines.Nvme;

/// <summary>
/// A medium in a file. It is read with positioned reads, never mapped: a file that shrinks while the machine runs is a
/// read error of the blocks that are gone, where a mapping would be the end of the process.
/// </summary>
public sealed class FileMedium : INvmeMedium
{
    private readonly SafeFileHandle _file;
    private readonly bool _isOurs;

    private FileMedium(SafeFileHandle file, long length, bool readOnly, bool isOurs = true)
    {
        (_file, Length, IsReadOnly, _isOurs) = (file, length, readOnly, isOurs);
        // A hole behind the end changes nothing and shows whether there can be any.
        CanDeallocate = !readOnly && FileHoles.TryPunch(file, length, 1);
    }

    /// <summary>Opens a regular file or block device of at least one byte.</summary>
    /// <param name="path">The file; it must exist.</param>
    /// <param name="readOnly">Open it for reading alone; writes are then refused by the namespace.</param>
    /// <exception cref="IOException">It is missing, empty, no such file, or otherwise unreadable.</exception>
    /// <exception cref="UnauthorizedAccessException">The system does not let us.</exception>
    public static FileMedium Open(string path, bool readOnly)
    {
        SafeFileHandle file = PlainFile.Open(path, writable: !readOnly);
        try
        {
            long length = PlainFile.LengthOf(file);
            if (length == 0) { throw new IOException($"'{path}' is empty: a disk has at least one byte"); }
            return new(file, length, readOnly);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>A medium over a file that is open already, to be read only.</summary>
    /// <param name="file">A file of at least one byte; it stays the caller's, and outlives the medium.</param>
    /// <exception cref="IOException">It is empty, or the system does not tell its length.</exception>
    public static FileMedium Over(SafeFileHandle file)
    {
        long length = PlainFile.LengthOf(file);
        return length != 0
            ? new(file, length, readOnly: true, isOurs: false)
            : throw new IOException("a disk has at least one byte");
    }

    /// <summary>
    /// Opens something that has no length of its own, as a character device, for reading and writing.
    /// </summary>
    /// <exception cref="IOException">It does not open.</exception>
    public static FileMedium OpenDevice(string path, long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        return new(
            File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite), length, readOnly: false);
    }

    /// <inheritdoc/>
    public long Length { get; }

    /// <inheritdoc/>
    public bool IsReadOnly { get; }

    /// <inheritdoc/>
    public MediumStatus Read(long offset, Span<byte> destination)
    {
        int inside = (int)Math.Clamp(Length - offset, 0, destination.Length);
        destination[inside..].Clear();
        try
        {
            for (Span<byte> left = destination[..inside]; !left.IsEmpty;)
            {
                int read = RandomAccess.Read(_file, left, offset);
                if (read <= 0) { return MediumStatus.ReadError; }
                left = left[read..];
                offset += read;
            }
            return MediumStatus.Done;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ObjectDisposedException)
        {
            return MediumStatus.ReadError;
        }
    }

    /// <inheritdoc/>
    public MediumStatus Write(long offset, ReadOnlySpan<byte> source)
    {
        if (IsReadOnly) { return MediumStatus.ReadOnly; }
        int inside = (int)Math.Clamp(Length - offset, 0, source.Length);
        try
        {
            RandomAccess.Write(_file, source[..inside], offset);
            return MediumStatus.Done;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ObjectDisposedException)
        {
            return MediumStatus.WriteFault;
        }
    }

    /// <summary>Whether the file can have holes.</summary>
    public bool CanDeallocate { get; }

    /// <inheritdoc/>
    public MediumStatus Deallocate(long offset, long length)
    {
        if (IsReadOnly) { return MediumStatus.ReadOnly; }
        long inside = Math.Clamp(Length - offset, 0, length);
        try
        {
            return inside == 0 || FileHoles.TryPunch(_file, offset, inside) ? MediumStatus.Done
                : MediumStatus.WriteFault;
        }
        catch (ObjectDisposedException)
        {
            return MediumStatus.WriteFault;
        }
    }

    /// <inheritdoc/>
    public MediumStatus Flush()
    {
        if (IsReadOnly) { return MediumStatus.Done; }
        try
        {
            RandomAccess.FlushToDisk(_file);
            return MediumStatus.Done;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ObjectDisposedException)
        {
            return MediumStatus.WriteFault;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_isOurs) { _file.Dispose(); }
    }
}
