namespace Sluice.Dma.Tests;

internal static class Leases
{
    /// <summary>The elements of a list, as objects that tests can look at in any order.</summary>
    internal static IReadOnlyList<ScatterGatherElement> Elements(this ScatterGatherLease list)
    {
        List<ScatterGatherElement> elements = [];
        foreach (ScatterGatherElement element in list) { elements.Add(element); }
        return elements;
    }
}
