using Sluice.Machines.Nvme;

namespace Sluice.Cli.Run;

/// <summary>The disk to read: the user's file, or one made for this run and gone after it.</summary>
internal sealed class DiskImage : IDisposable
{
    private const int MadeBytes = 64 << 20;
    private const int MadeSeed = 2006;
    private static int s_made;
    private readonly bool _isOurs;

    private DiskImage(string path, long length, bool isOurs) => (Path, Length, _isOurs) = (path, length, isOurs);

    /// <summary>Where it is, as the user named it.</summary>
    public string Path { get; }

    /// <summary>Its size in bytes, at least 1.</summary>
    public long Length { get; }

    /// <summary>Checks that <paramref name="path"/> can be read, or makes a disk when it is null.</summary>
    public static DiskImage At(string? path)
    {
        if (path is not null) { return new(path, LengthOf(path), isOurs: false); }
        string name = $"sluice-{Environment.ProcessId}-{Interlocked.Increment(ref s_made)}.img";
        string made = System.IO.Path.Combine(System.IO.Path.GetTempPath(), name);
        try
        {
            Make(made);
            return new(made, LengthOf(made), isOurs: true);
        }
        catch (Exception error)
        {
            File.Delete(made);
            if (error is CommandException) { throw; }
            throw new CommandException(
                $"cannot make a disk of {MadeBytes >> 20} MiB: {OneLine(error)}. Free some space or give --disk FILE.");
        }
    }

    /// <summary>Opens it for reading. The medium becomes the caller's.</summary>
    public FileMedium Open()
    {
        try
        {
            return FileMedium.Open(Path, readOnly: true);
        }
        catch (Exception error) when (IsAboutTheFile(error))
        {
            throw new CommandException($"cannot read the disk: {OneLine(error)}");
        }
    }

    private static long LengthOf(string path)
    {
        if (Directory.Exists(path)) { throw new CommandException($"--disk {path} is a folder; give a file"); }
        try
        {
            using FileMedium medium = FileMedium.Open(path, readOnly: true);
            return medium.Length;
        }
        catch (Exception error) when (IsAboutTheFile(error))
        {
            throw new CommandException($"cannot read the disk: {OneLine(error)}");
        }
    }

    private static bool IsAboutTheFile(Exception error) =>
        error is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException;

    private static void Make(string path)
    {
        Random random = new(MadeSeed);
        byte[] piece = new byte[1 << 20];
        using FileStream file = new(path, FileMode.CreateNew, FileAccess.Write);
        for (int written = 0; written < MadeBytes; written += piece.Length)
        {
            random.NextBytes(piece);
            file.Write(piece);
        }
    }

    private static string OneLine(Exception error) => error.Message.ReplaceLineEndings(" ").TrimEnd('.');

    /// <summary>Removes the disk if it was made here.</summary>
    public void Dispose()
    {
        if (_isOurs) { File.Delete(Path); }
    }
}
