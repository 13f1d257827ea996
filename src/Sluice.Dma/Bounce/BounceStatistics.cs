namespace Sluice.Dma;

/// <summary>The bounce pools of a system at one moment, added up.</summary>
/// <param name="Pages">Pages set aside.</param>
/// <param name="FreePages">Pages that nobody holds.</param>
/// <param name="QuarantinedPages">Pages of leaked transfers: never handed out again until released.</param>
/// <param name="Hits">Requests that one area served alone.</param>
/// <param name="Gathered">Requests that took pages of several areas, or while others waited.</param>
/// <param name="Short">Requests that found too little, whether they waited then or not.</param>
/// <param name="Grown">Times a pool grew.</param>
public readonly record struct BounceStatistics(
    int Pages, int FreePages, int QuarantinedPages, long Hits, long Gathered, long Short, long Grown)
{
    internal static BounceStatistics Add(in BounceStatistics a, in BounceStatistics b) => new(
        a.Pages + b.Pages, a.FreePages + b.FreePages, a.QuarantinedPages + b.QuarantinedPages, a.Hits + b.Hits,
        a.Gathered + b.Gathered, a.Short + b.Short, a.Grown + b.Grown);
}
