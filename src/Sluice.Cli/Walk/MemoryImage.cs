namespace Sluice.Cli.Walk;

/// <summary>A file of raw physical memory, mapped and never written.</summary>
internal sealed class MemoryImage : IDisposable
{
    private readonly FileStream _file;
    private readonly MemoryBanks _banks;

    private MemoryImage(FileStream file, MemoryBanks banks, PhysicalRange range) =>
        (_file, _banks, Range) = (file, banks, range);

    /// <summary>The memory.</summary>
    public PhysicalMemory Memory => _banks.Memory;

    /// <summary>What the file holds.</summary>
    public PhysicalRange Range { get; }

    /// <summary>Opens an image whose first byte is at <paramref name="first"/>.</summary>
    public static MemoryImage Open(string path, PhysicalAddress first)
    {
        FileStream? file = null;
        try
        {
            if (Directory.Exists(path)) { throw new CommandException($"--image {path} is a folder; give a file"); }
            file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            ulong length = (ulong)file.Length;
            if (length == 0) { throw new CommandException($"--image {path} is empty"); }
            if (length - 1 > ulong.MaxValue - first.Value)
            {
                throw new CommandException($"--base {first} puts the image's end beyond 2^64");
            }
            MemoryBank bank = new(first, NativeBlock.Map(file, length, writable: false), 0, length, Writable: false);
            return new(file, new MemoryBanks(bank), new(first, first + (length - 1)));
        }
        catch (Exception error)
        {
            file?.Dispose();
            if (error is IOException or UnauthorizedAccessException or NotSupportedException or ArgumentException)
            {
                throw new CommandException(
                    $"cannot read the image: {error.Message.ReplaceLineEndings(" ").TrimEnd('.')}");
            }
            throw;
        }
    }

    /// <summary>Unmaps and closes.</summary>
    public void Dispose()
    {
        _banks.Dispose();
        _file.Dispose();
    }
}
