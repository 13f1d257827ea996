namespace Sluice.Dma;

/// <summary>Walks the pages that a transfer touches, in order: of each its frame and the bytes in it.</summary>
internal ref struct TransferPages
{
    private const int PageLog2 = 12;
    private const uint PageSize = 1 << PageLog2;

    private MdlCursor _parts;
    private Mdl? _part;
    private ulong _position;
    private uint _left;

    internal TransferPages(in Transfer transfer) =>
        _parts = new(transfer.Mdl!, transfer.Offset, transfer.Length);

    /// <summary>The frame.</summary>
    internal PhysicalAddress Page { get; private set; }

    /// <summary>The first byte in it.</summary>
    internal uint First { get; private set; }

    /// <summary>Bytes in it, at least 1.</summary>
    internal uint Length { get; private set; }

    internal bool MoveNext()
    {
        if (_left == 0)
        {
            if (!_parts.NextPiece(out Mdl part, out uint offset, out _left)) { return false; }
            (_part, _position) = (part, (ulong)part.ByteOffset + offset);
        }
        Page = _part!.Pages[(int)(_position >> PageLog2)];
        First = (uint)_position & (PageSize - 1);
        Length = Math.Min(PageSize - First, _left);
        (_position, _left) = (_position + Length, _left - Length);
        return true;
    }
}
