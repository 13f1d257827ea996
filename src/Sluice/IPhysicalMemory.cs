namespace Sluice;

/// <summary>
/// Memory that tables, queues and buffers lie in: a machine's, QEMU's, a dump's, a test's.
/// Every <c>Try</c> method gives false where there is no memory, or where a word is not aligned to its size; none
/// throws.
/// </summary>
/// <remarks>
/// Algorithms take it as <c>where TMemory : struct, IPhysicalMemory</c>, which costs nothing per access.
/// Word accesses are single loads and stores with acquire and release order; all are safe from any thread.
/// </remarks>
public interface IPhysicalMemory
{
    /// <summary>Loads an aligned little-endian 64-bit word in one access.</summary>
    bool TryRead64(PhysicalAddress address, out ulong value);

    /// <summary>Stores an aligned little-endian 64-bit word in one access.</summary>
    bool TryWrite64(PhysicalAddress address, ulong value);

    /// <summary>
    /// Stores <paramref name="value"/> if the aligned word equals <paramref name="comparand"/>, in one atomic step.
    /// <paramref name="observed"/> is the word as it was before; the store happened when it equals the comparand.
    /// </summary>
    bool TryCompareExchange64(PhysicalAddress address, ulong comparand, ulong value, out ulong observed);

    /// <summary>Loads an aligned little-endian 32-bit word in one access.</summary>
    bool TryRead32(PhysicalAddress address, out uint value);

    /// <summary>Stores an aligned little-endian 32-bit word in one access.</summary>
    bool TryWrite32(PhysicalAddress address, uint value);

    /// <summary>Fills <paramref name="destination"/>; false, and nothing read, unless all of it is memory.</summary>
    bool TryRead(PhysicalAddress address, Span<byte> destination);

    /// <summary>
    /// Stores all of <paramref name="source"/>; false, and nothing stored, unless all of it is memory.
    /// </summary>
    bool TryWrite(PhysicalAddress address, ReadOnlySpan<byte> source);

    /// <summary>
    /// Loads 16 aligned bytes in one access: an entry of two words as it stood at one moment.
    /// </summary>
    /// <returns>False, and zeroes, where there is no memory or nothing here can load that much at once.</returns>
    bool TryRead128(PhysicalAddress address, out ulong low, out ulong high)
    {
        (low, high) = (0, 0);
        return false;
    }

    /// <summary>
    /// Stores 16 aligned bytes in one access: a reader that loads them in one access sees both words old or both new.
    /// </summary>
    /// <returns>False, and nothing stored, where there is no memory or nothing here can store that much at
    /// once.</returns>
    bool TryWrite128(PhysicalAddress address, ulong low, ulong high) => false;
}
