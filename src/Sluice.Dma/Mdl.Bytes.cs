using System.Runtime.CompilerServices;

namespace Sluice.Dma;

// The processor's view of the bytes. Ownership is by the byte: what a mapped transfer covers is the device's, what lies
// beside it in the same MDL or page is not.
public sealed partial class Mdl
{
    /// <summary>Copies bytes out of the buffer, following the chain.</summary>
    /// <param name="offset">The first byte, counted from this MDL's start.</param>
    /// <param name="destination">Where to; all of it is filled.</param>
    /// <exception cref="ArgumentOutOfRangeException">The chain is too short.</exception>
    /// <exception cref="InvalidOperationException">A mapped transfer from the device covers some of them.</exception>
    public void CopyTo(uint offset, Span<byte> destination)
    {
        ObjectDisposedException.ThrowIf(Volatile.Read(ref _pins) == DisposedBit, this);
        CheckOwned(offset, (uint)destination.Length, writes: false);
        Peek(offset, destination);
    }

    /// <summary>Copies bytes into the buffer, following the chain.</summary>
    /// <param name="offset">The first byte, counted from this MDL's start.</param>
    /// <param name="source">What to copy.</param>
    /// <exception cref="ArgumentOutOfRangeException">The chain is too short.</exception>
    /// <exception cref="InvalidOperationException">A mapped transfer covers some of them.</exception>
    public void CopyFrom(uint offset, ReadOnlySpan<byte> source)
    {
        ObjectDisposedException.ThrowIf(Volatile.Read(ref _pins) == DisposedBit, this);
        CheckOwned(offset, (uint)source.Length, writes: true);
        Poke(offset, source);
    }

    /// <summary>
    /// The bytes themselves from <paramref name="offset"/> to the end of their page or of this MDL, to read and write.
    /// The processor must own all of them now; do not keep the span until the next get.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="offset"/> is not below
    /// <see cref="ByteCount"/>.</exception>
    /// <exception cref="InvalidOperationException">A mapped transfer covers some of them.</exception>
    public Span<byte> GetSpan(uint offset) => Lend(offset, uint.MaxValue, writes: true);

    /// <summary>As <see cref="GetSpan(uint)"/>, and no more than <paramref name="length"/> bytes.</summary>
    /// <inheritdoc cref="GetSpan(uint)"/>
    public Span<byte> GetSpan(uint offset, uint length) => Lend(offset, length, writes: true);

    /// <summary>
    /// As <see cref="GetSpan(uint)"/>, to read, and no more than <paramref name="length"/> bytes: allowed while they
    /// are mapped for the device to read.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="offset"/> is not below
    /// <see cref="ByteCount"/>.</exception>
    /// <exception cref="InvalidOperationException">A mapped transfer from the device covers some of them.</exception>
    public ReadOnlySpan<byte> GetReadOnlySpan(uint offset, uint length = uint.MaxValue) =>
        Lend(offset, length, writes: false);

    /// <summary>
    /// As <see cref="CopyTo"/>, whoever owns the bytes: for back-ends, which work in between. A transfer that begins
    /// below 4 GiB of a chain may end above.
    /// </summary>
    internal void Peek(ulong offset, Span<byte> destination)
    {
        MdlCursor cursor = new(this, offset, (uint)destination.Length);
        while (cursor.NextPiece(out Mdl part, out uint at, out uint length))
        {
            while (length > 0)
            {
                Span<byte> here = part.SpanAt(at);
                if ((uint)here.Length > length) { here = here[..(int)length]; }
                here.CopyTo(destination);
                destination = destination[here.Length..];
                (at, length) = (at + (uint)here.Length, length - (uint)here.Length);
            }
        }
    }

    /// <summary>As <see cref="CopyFrom"/>, whoever owns the bytes.</summary>
    internal void Poke(ulong offset, ReadOnlySpan<byte> source)
    {
        MdlCursor cursor = new(this, offset, (uint)source.Length);
        while (cursor.NextPiece(out Mdl part, out uint at, out uint length))
        {
            while (length > 0)
            {
                Span<byte> here = part.SpanAt(at);
                if ((uint)here.Length > length) { here = here[..(int)length]; }
                source[..here.Length].CopyTo(here);
                source = source[here.Length..];
                (at, length) = (at + (uint)here.Length, length - (uint)here.Length);
            }
        }
    }

    private Span<byte> Lend(uint offset, uint length, bool writes)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(offset, ByteCount);
        ObjectDisposedException.ThrowIf(Volatile.Read(ref _pins) < 0, this);
        Span<byte> span = SpanAt(offset);
        if ((uint)span.Length > length) { span = span[..(int)length]; }
        if (MappedTransfers != 0) { DmaOwnership.Check(_platform, this, offset, (uint)span.Length, writes); }
        return span;
    }

    // Nothing but a load where nothing is mapped; who maps what is only looked up where something is.
    private void CheckOwned(uint offset, uint length, bool writes)
    {
        if (Next is null && MappedTransfers == 0) { return; }
        CheckParts(offset, length, writes);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void CheckParts(uint offset, uint length, bool writes)
    {
        MdlCursor cursor = new(this, offset, length);
        while (cursor.NextPiece(out Mdl part, out uint at, out uint here))
        {
            if (part.MappedTransfers != 0) { DmaOwnership.Check(_platform, part, at, here, writes); }
        }
    }
}
