namespace Sluice.Dma;

/// <summary>What is copied between a page of a buffer and the page that stands in for it.</summary>
internal static class BouncePage
{
    private const uint PageSize = 1 << 12;

    /// <summary>A part of a buffer's page, at the same offset, and zeros around it.</summary>
    internal static void Fill(
        PhysicalMemory memory, PhysicalAddress bounce, PhysicalAddress page, uint inPage, uint length)
    {
        Span<byte> bytes = SpanOf(memory, bounce, PageSize);
        bytes[..(int)inPage].Clear();
        SpanOf(memory, page + inPage, length).CopyTo(bytes[(int)inPage..]);
        bytes[(int)(inPage + length)..].Clear();
    }

    /// <summary>That part of the page as the device left it.</summary>
    internal static void CopyBack(
        PhysicalMemory memory, PhysicalAddress bounce, PhysicalAddress page, uint inPage, uint length) =>
        SpanOf(memory, bounce + inPage, length).CopyTo(SpanOf(memory, page + inPage, length));

    /// <summary>The bytes of frames that were checked to be buffers.</summary>
    internal static Span<byte> SpanOf(PhysicalMemory memory, PhysicalAddress first, uint length) =>
        memory.TryGetSpan(first, (int)length, out Span<byte> bytes)
            ? bytes
            : throw new InvalidOperationException($"the page at {first} is not writable memory");
}
