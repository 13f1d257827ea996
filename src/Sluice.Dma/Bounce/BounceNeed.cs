namespace Sluice.Dma;

/// <summary>What a transfer needs of a bounce pool.</summary>
/// <param name="Pages">Pages, at least 1 when anything is needed.</param>
/// <param name="Run">Whether they must follow each other: the device takes one element.</param>
/// <param name="InPage">With <paramref name="Run"/>: where in the first page the data begins.</param>
/// <param name="Length">With <paramref name="Run"/>: bytes.</param>
/// <param name="BoundaryLog2">With <paramref name="Run"/>: no multiple of 2^this lies inside the data.</param>
internal readonly record struct BounceNeed(
    int Pages, bool Run = false, uint InPage = 0, uint Length = 0, int BoundaryLog2 = 64)
{
    /// <summary>Whether the data may lie in a run that begins at <paramref name="page"/>.</summary>
    internal bool Fits(PhysicalAddress page)
    {
        if (BoundaryLog2 >= 64) { return true; }
        ulong first = page.Value + InPage;
        return first >> BoundaryLog2 == (first + (Length - 1)) >> BoundaryLog2;
    }
}
