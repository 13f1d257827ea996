namespace Sluice.Dma;

/// <summary>Walks a byte range of an MDL chain page by page.</summary>
internal ref struct PageCursor
{
    private const int PageLog2 = 12;
    private const uint PageSize = 1 << PageLog2;
    private MdlCursor _parts;
    private ReadOnlySpan<PhysicalAddress> _pages;
    private uint _inPage;
    private uint _left;

    internal PageCursor(in Transfer transfer) => _parts = new(transfer.Mdl!, transfer.Offset, transfer.Length);

    /// <summary>The next page, where in it the range continues, and for how many bytes (at least 1).</summary>
    internal bool Next(out PhysicalAddress page, out uint inPage, out uint length)
    {
        if (_left == 0)
        {
            if (!_parts.NextPiece(out Mdl part, out uint offset, out _left))
            {
                (page, inPage, length) = (default, 0, 0);
                return false;
            }
            ulong position = (ulong)part.ByteOffset + offset;
            _pages = part.Pages[(int)(position >> PageLog2)..];
            _inPage = (uint)position & (PageSize - 1);
        }
        (page, inPage, length) = (_pages[0], _inPage, Math.Min(PageSize - _inPage, _left));
        _left -= length;
        _inPage = 0;
        _pages = _pages[1..];
        return true;
    }
}
