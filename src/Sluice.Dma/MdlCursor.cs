namespace Sluice.Dma;

/// <summary>Walks a byte range of an MDL chain part by part.</summary>
internal ref struct MdlCursor
{
    private Mdl? _part;
    private ulong _offset;
    private uint _left;

    /// <exception cref="ArgumentOutOfRangeException">The chain ends before the range does.</exception>
    internal MdlCursor(Mdl mdl, ulong offset, uint length)
    {
        ulong end = offset + length;
        if (end > mdl.ByteCount && end > mdl.ChainByteCount)
        {
            throw new ArgumentOutOfRangeException(
                nameof(length), $"bytes {offset} to {end} are asked of a buffer of {mdl.ChainByteCount} bytes");
        }
        (_part, _offset, _left) = (mdl, offset, length);
    }

    /// <summary>The next part, where in it the range continues, and for how many bytes (at least 1).</summary>
    internal bool NextPiece(out Mdl part, out uint offset, out uint length)
    {
        while (_left > 0 && _part is not null)
        {
            part = _part;
            _part = part.Next;
            if (_offset >= part.ByteCount)
            {
                _offset -= part.ByteCount;
                continue;
            }
            offset = (uint)_offset;
            length = Math.Min(_left, part.ByteCount - offset);
            _left -= length;
            _offset = 0;
            return true;
        }
        (part, offset, length) = (null!, 0, 0);
        return false;
    }
}
