namespace Sluice.Machines.Nvme;

/// <summary>A medium in an array: fast, gone with the process, and what tests compare against.</summary>
public sealed class MemoryMedium : INvmeMedium
{
    private readonly Memory<byte> _content;

    /// <summary>
    /// A medium over <paramref name="content"/>, which stays the caller's: its bytes may be looked at any time.
    /// </summary>
    public MemoryMedium(Memory<byte> content, bool readOnly = false) => (_content, IsReadOnly) = (content, readOnly);

    /// <inheritdoc/>
    public long Length => _content.Length;

    /// <inheritdoc/>
    public bool IsReadOnly { get; }

    /// <inheritdoc/>
    public MediumStatus Read(long offset, Span<byte> destination)
    {
        int inside = (int)Math.Clamp(Length - offset, 0, destination.Length);
        if (inside > 0) { _content.Span.Slice((int)offset, inside).CopyTo(destination); }
        destination[inside..].Clear();
        return MediumStatus.Done;
    }

    /// <inheritdoc/>
    public MediumStatus Write(long offset, ReadOnlySpan<byte> source)
    {
        if (IsReadOnly) { return MediumStatus.ReadOnly; }
        int inside = (int)Math.Clamp(Length - offset, 0, source.Length);
        if (inside > 0) { source[..inside].CopyTo(_content.Span[(int)offset..]); }
        return MediumStatus.Done;
    }

    /// <inheritdoc/>
    public bool CanDeallocate => !IsReadOnly;

    /// <inheritdoc/>
    public MediumStatus Deallocate(long offset, long length)
    {
        if (IsReadOnly) { return MediumStatus.ReadOnly; }
        int inside = (int)Math.Clamp(Length - offset, 0, length);
        if (inside > 0) { _content.Span.Slice((int)offset, inside).Clear(); }
        return MediumStatus.Done;
    }

    /// <inheritdoc/>
    public MediumStatus Flush() => MediumStatus.Done;

    /// <inheritdoc/>
    public void Dispose()
    {
    }
}
