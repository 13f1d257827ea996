namespace Sluice.Testing;

/// <summary>What a thread takes from the heap, without what the runtime takes for itself.</summary>
/// <remarks>
/// The runtime enlarges tables of its own, a few KiB at a time and now and then, on whichever thread is just having a
/// method compiled; that thread is told the bytes. So a thousand requests or more are measured and so much is allowed:
/// one smallest object (24 bytes) for each would be more. Seen failing, in every test of the DDI: one object a request.
/// </remarks>
internal static class HeapMeter
{
    private const long RuntimeTables = 16 << 10;

    /// <summary>The meter of this thread now.</summary>
    public static long Now => GC.GetAllocatedBytesForCurrentThread();

    /// <summary>Asserts that nothing was allocated per request since <paramref name="before"/>.</summary>
    public static void AssertNone(long before) => Assert.InRange(Now - before, 0, RuntimeTables);
}
