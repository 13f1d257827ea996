namespace Sluice.Machines.Nvme;

/// <summary>What became of an access to the medium.</summary>
public enum MediumStatus : byte
{
    /// <summary>All of it was done.</summary>
    Done,

    /// <summary>Some of the data could not be read: the controller answers Unrecovered Read Error.</summary>
    ReadError,

    /// <summary>Some of the data could not be stored (a full disk): the controller answers Write Fault.</summary>
    WriteFault,

    /// <summary>The medium takes no writes: the controller answers Namespace is Write Protected.</summary>
    ReadOnly,
}

/// <summary>
/// The flash behind an NVMe namespace. One device thread calls it at a time. Offsets are bytes and always inside
/// <see cref="Length"/>, except that the last block may reach past it: reads past the end give zeros.
/// No call throws: a medium that fails says so.
/// </summary>
public interface INvmeMedium : IDisposable
{
    /// <summary>Bytes of content, fixed when the medium was opened; need not be a multiple of a block.</summary>
    long Length { get; }

    /// <summary>Whether writes are refused.</summary>
    bool IsReadOnly { get; }

    /// <summary>
    /// Fills <paramref name="destination"/>; on any other answer than done its content means nothing.
    /// </summary>
    MediumStatus Read(long offset, Span<byte> destination);

    /// <summary>Stores <paramref name="source"/>.</summary>
    MediumStatus Write(long offset, ReadOnlySpan<byte> source);

    /// <summary>
    /// Whether <see cref="Deallocate"/> gives room back and leaves zeros. Where it cannot, the namespace says that what
    /// is deallocated reads as anything, and leaves it alone.
    /// </summary>
    bool CanDeallocate => false;

    /// <summary>
    /// Gives the room of these bytes back; they read as zeros from then on. Called only where
    /// <see cref="CanDeallocate"/> holds, for 64 MiB at most at once.
    /// </summary>
    MediumStatus Deallocate(long offset, long length) => MediumStatus.Done;

    /// <summary>Returns once everything written before is stable.</summary>
    MediumStatus Flush();
}
