namespace Sluice.Dma.Wdm;

// Rows 2, 3, 19: memory for processor and device. The virtual address that the DDI hands out is the buffer itself here:
// the object through which the processor reads and writes it.
public sealed partial class WdmAdapter
{
    /// <summary>
    /// AllocateCommonBuffer: memory that processor and device use together, one logical run wherever its pages lie.
    /// </summary>
    /// <remarks>At PASSIVE_LEVEL, at any time.</remarks>
    /// <param name="length">Bytes, at least 1; bytes beyond are nobody's to use.</param>
    /// <param name="logicalAddress">What the device is told; never a physical address.</param>
    /// <param name="cacheEnabled">Says nothing: memory is cached and coherent, as on x86 and x64.</param>
    /// <returns>The buffer, in the place of its virtual address; null when there is no memory or space.</returns>
    public CommonBuffer? AllocateCommonBuffer(uint length, out LogicalAddress logicalAddress, bool cacheEnabled)
    {
        Enter(DdiFunction.AllocateCommonBuffer);
        return Allocate(length, new(), out logicalAddress);
    }

    /// <summary>AllocateCommonBufferEx: as <see cref="AllocateCommonBuffer"/>, up to an address.</summary>
    /// <remarks>At PASSIVE_LEVEL.</remarks>
    /// <param name="maximumAddress">The last logical address it may take; null for all the device drives.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="logicalAddress">What the device is told.</param>
    /// <param name="cacheEnabled">Honoured, and the same either way: the platform is coherent.</param>
    /// <param name="preferredNode">A NUMA node: all memory is of one node here.</param>
    /// <returns>As <see cref="AllocateCommonBuffer"/>.</returns>
    public CommonBuffer? AllocateCommonBufferEx(
        LogicalAddress? maximumAddress, uint length, out LogicalAddress logicalAddress, bool cacheEnabled,
        int preferredNode)
    {
        Enter(DdiFunction.AllocateCommonBufferEx);
        return Allocate(length, new() { LastAddress = maximumAddress }, out logicalAddress);
    }

    /// <summary>FreeCommonBuffer: ends the device's reach, then gives the memory back.</summary>
    /// <remarks>At PASSIVE_LEVEL. All of it, exactly as it was allocated.</remarks>
    /// <param name="length">As it was allocated.</param>
    /// <param name="logicalAddress">As it was allocated.</param>
    /// <param name="virtualAddress">The buffer.</param>
    /// <param name="cacheEnabled">As it was allocated.</param>
    /// <exception cref="InvalidOperationException">Length or address is not the buffer's, or it was freed
    /// before.</exception>
    public void FreeCommonBuffer(
        uint length, LogicalAddress logicalAddress, CommonBuffer virtualAddress, bool cacheEnabled)
    {
        Enter(DdiFunction.FreeCommonBuffer);
        ArgumentNullException.ThrowIfNull(virtualAddress);
        VerifyFree(virtualAddress, logicalAddress, length);
        if (length != virtualAddress.Length || logicalAddress != virtualAddress.Address)
        {
            throw new InvalidOperationException(
                $"{Driver} frees {length} bytes at {logicalAddress} of a common buffer of {virtualAddress.Length} bytes "
                + $"at {virtualAddress.Address}: all of it or nothing");
        }
        virtualAddress.Dispose();
    }

    private CommonBuffer? Allocate(uint length, CommonBufferOptions options, out LogicalAddress logicalAddress)
    {
        logicalAddress = default;
        if (length == 0) { return null; }
        try
        {
            CommonBuffer buffer = Adapter.AllocateCommonBuffer(length, options, nameof(AllocateCommonBuffer), Driver);
            logicalAddress = buffer.Address;
            return buffer;
        }
        catch (DmaException) { return null; }
    }
}
