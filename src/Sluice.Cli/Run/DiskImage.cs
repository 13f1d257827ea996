using Microsoft.Win32.SafeHandles;
using Sluice.Machines.Nvme;

namespace Sluice.Cli.Run;

/// <summary>
/// The disk to read: the user's file, or one made for this run that has no name and is gone with the process. It is
/// opened once: everybody reads that very file, whatever its name leads to later.
/// </summary>
internal sealed class DiskImage : IDisposable
{
    private const int MadeBytes = 64 << 20;
    private const int MadeSeed = 2006;
    private readonly SafeFileHandle _file;
    private readonly DateTime _written;

    private DiskImage(SafeFileHandle file, string name, long length) =>
        (_file, Name, Length, _written) = (file, name, length, WrittenAt(file));

    /// <summary>What to call it: as the user named it.</summary>
    public string Name { get; }

    /// <summary>Its size in bytes, at least 1.</summary>
    public long Length { get; }

    /// <summary>
    /// What happened to the file since it was opened, as the end of a sentence about it; null when nothing did. A file
    /// that was changed while it was read is not the file that was named, and QEMU reads zeros where one has ended.
    /// </summary>
    /// <exception cref="IOException">The system does not tell.</exception>
    public string? Change => PlainFile.LengthOf(_file) switch
    {
        var now when now < Length => $"it became shorter meanwhile, {Length} bytes before and {now} now",
        var now when now > Length => $"it became longer meanwhile, {Length} bytes before and {now} now",
        _ => WrittenAt(_file) != _written ? "somebody wrote to it meanwhile" : null,
    };

    /// <summary>A path by which another process opens it while this object lives.</summary>
    public string Path => PlainFile.PathOf(_file);

    /// <summary>Opens <paramref name="path"/>, or makes a disk when it is null.</summary>
    public static DiskImage At(string? path) => path is null ? Make() : Open(path);

    /// <summary>A medium over it, which must not outlive this object.</summary>
    public FileMedium Open() => FileMedium.Over(_file);

    private static DiskImage Open(string path)
    {
        SafeFileHandle? file = null;
        try
        {
            file = PlainFile.Open(path, writable: false);
            long length = PlainFile.LengthOf(file);
            if (length == 0) { throw new IOException($"'{path}' is empty: a disk has at least one byte"); }
            return new(file, path, length);
        }
        catch (Exception error) when (ErrorText.IsOfAFile(error))
        {
            file?.Dispose();
            throw new CommandException($"cannot read the disk: {ErrorText.Of(error)}");
        }
    }

    private static DiskImage Make()
    {
        SafeFileHandle? file = null;
        try
        {
            file = PlainFile.CreateNameless(MadeBytes);
            Random random = new(MadeSeed);
            byte[] piece = new byte[1 << 20];
            for (int written = 0; written < MadeBytes; written += piece.Length)
            {
                random.NextBytes(piece);
                RandomAccess.Write(file, piece, written);
            }
            return new(file, "64 MiB made for this run", MadeBytes);
        }
        catch (Exception error) when (ErrorText.IsOfAFile(error))
        {
            file?.Dispose();
            throw new CommandException(
                $"cannot make a disk of {MadeBytes >> 20} MiB: {ErrorText.Of(error)}. "
                + "Free some space or give --disk FILE.");
        }
    }

    // The time of a block device is that of its name in /dev, or none.
    private static DateTime WrittenAt(SafeFileHandle file) =>
        PlainFile.IsBlockDevice(file) ? default : File.GetLastWriteTimeUtc(file);

    /// <summary>Closes it; one that was made is gone.</summary>
    public void Dispose() => _file.Dispose();
}
