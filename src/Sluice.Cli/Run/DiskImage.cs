using Sluice.Machines.Nvme;

namespace Sluice.Cli.Run;

/// <summary>The disk to read: the user's file, or one made for this run and gone after it.</summary>
internal sealed class DiskImage : IDisposable
{
    private const int MadeBytes = 64 << 20;
    private const int MadeSeed = 2006;
    private static int s_made;
    private readonly bool _isOurs;

    private DiskImage(string path, FileMedium medium, bool isOurs) => (Path, Medium, _isOurs) = (path, medium, isOurs);

    /// <summary>Where it is, as the user named it.</summary>
    public string Path { get; }

    /// <summary>What the NVMe controller reads from.</summary>
    public FileMedium Medium { get; }

    /// <summary>Opens <paramref name="path"/> for reading, or makes a disk when it is null.</summary>
    public static DiskImage Open(string? path)
    {
        if (path is not null) { return new(path, OpenReadable(path), isOurs: false); }
        string made = System.IO.Path.Combine(
            System.IO.Path.GetTempPath(), $"sluice-{Environment.ProcessId}-{Interlocked.Increment(ref s_made)}.img");
        try
        {
            Make(made);
            return new(made, OpenReadable(made), isOurs: true);
        }
        catch (Exception error)
        {
            File.Delete(made);
            if (error is CommandException) { throw; }
            throw new CommandException(
                $"cannot make a disk of {MadeBytes >> 20} MiB: {OneLine(error)}. Free some space or give --disk FILE.");
        }
    }

    private static FileMedium OpenReadable(string path)
    {
        if (Directory.Exists(path)) { throw new CommandException($"--disk {path} is a folder; give a file"); }
        try
        {
            return FileMedium.Open(path, readOnly: true);
        }
        catch (Exception error)
            when (error is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new CommandException($"cannot read the disk: {OneLine(error)}");
        }
    }

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

    /// <summary>Removes the disk if it was made here. The medium belongs to the machine.</summary>
    public void Dispose()
    {
        if (_isOurs) { File.Delete(Path); }
    }
}
