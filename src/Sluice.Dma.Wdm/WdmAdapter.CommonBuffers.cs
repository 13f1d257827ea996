namespace Sluice.Dma.Wdm;

/// <summary>MEMORY_CACHING_TYPE, as far as the DDI takes it.</summary>
public enum MemoryCachingType
{
    /// <summary>MmNonCached.</summary>
    NonCached,

    /// <summary>MmCached.</summary>
    Cached,

    /// <summary>MmWriteCombined: not for common buffers.</summary>
    WriteCombined,
}

/// <summary>How a common buffer in a domain, with bounds, or of a vector is made.</summary>
[Flags]
public enum DomainCommonBufferFlags
{
    /// <summary>Of pages.</summary>
    None = 0,

    /// <summary>DOMAIN_COMMON_BUFFER_LARGE_PAGE: in units of 512 pages, aligned to that on the bus.</summary>
    LargePage = 1,
}

// Rows 2, 3, 19, 29, 32: memory for processor and device. The virtual address that the DDI hands out is the buffer
// itself here: the object through which the processor reads and writes it. Memory is cached and coherent, as on x86 and
// x64, whatever is asked; it is of one NUMA node.
public sealed partial class WdmAdapter
{
    // PAGE_SIZE * 512.
    private const int LargePageLog2 = 21;

    /// <summary>
    /// AllocateCommonBuffer: memory that processor and device use together, one logical run wherever its pages lie.
    /// </summary>
    /// <remarks>At PASSIVE_LEVEL, at any time.</remarks>
    /// <param name="length">Bytes, at least 1; bytes beyond are nobody's to use.</param>
    /// <param name="logicalAddress">What the device is told; never a physical address.</param>
    /// <param name="cacheEnabled">Says nothing.</param>
    /// <returns>The buffer, in the place of its virtual address; null when there is no memory or space.</returns>
    public CommonBuffer? AllocateCommonBuffer(ulong length, out LogicalAddress logicalAddress, bool cacheEnabled)
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
    /// <param name="preferredNode">A NUMA node.</param>
    /// <returns>As <see cref="AllocateCommonBuffer"/>.</returns>
    public CommonBuffer? AllocateCommonBufferEx(
        LogicalAddress? maximumAddress, ulong length, out LogicalAddress logicalAddress, bool cacheEnabled,
        int preferredNode)
    {
        Enter(DdiFunction.AllocateCommonBufferEx);
        return Allocate(length, new() { LastAddress = maximumAddress }, out logicalAddress);
    }

    /// <summary>AllocateCommonBufferWithBounds: as <see cref="AllocateCommonBuffer"/>, between two addresses.</summary>
    /// <remarks>At PASSIVE_LEVEL.</remarks>
    /// <param name="minimumAddress">The lowest logical address it may take; null for any.</param>
    /// <param name="maximumAddress">The last logical address it may take; null for all the device drives.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="flags">Large pages or not.</param>
    /// <param name="cacheType">Cached or not; null for the platform's own.</param>
    /// <param name="preferredNode">A NUMA node.</param>
    /// <param name="logicalAddress">What the device is told.</param>
    /// <returns>As <see cref="AllocateCommonBuffer"/>; null, too, for another cache type.</returns>
    public CommonBuffer? AllocateCommonBufferWithBounds(
        LogicalAddress? minimumAddress, LogicalAddress? maximumAddress, ulong length, DomainCommonBufferFlags flags,
        MemoryCachingType? cacheType, int preferredNode, out LogicalAddress logicalAddress)
    {
        Enter(DdiFunction.AllocateCommonBufferWithBounds);
        logicalAddress = default;
        return Options(minimumAddress, maximumAddress, flags, cacheType) is { } options
            ? Allocate(length, options, out logicalAddress) : null;
    }

    /// <summary>AllocateDomainCommonBuffer: a common buffer that every device in the domain reaches.</summary>
    /// <remarks>At PASSIVE_LEVEL. <see cref="FreeCommonBuffer"/> frees it.</remarks>
    /// <param name="domain">The adapter's own domain.</param>
    /// <param name="maximumAddress">The last logical address it may take; null for all that the devices drive.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="flags">Large pages or not.</param>
    /// <param name="cacheType">Cached or not.</param>
    /// <param name="preferredNode">A NUMA node.</param>
    /// <param name="logicalAddress">What the devices are told.</param>
    /// <param name="virtualAddress">The buffer; null after an error.</param>
    /// <returns>Success; InvalidParameter: another domain, cache type or flag, or no byte;
    /// InsufficientResources.</returns>
    public NtStatus AllocateDomainCommonBuffer(
        DmaDomain domain, LogicalAddress? maximumAddress, ulong length, DomainCommonBufferFlags flags,
        MemoryCachingType cacheType, int preferredNode, out LogicalAddress logicalAddress,
        out CommonBuffer? virtualAddress)
    {
        Enter(DdiFunction.AllocateDomainCommonBuffer);
        (logicalAddress, virtualAddress) = (default, null);
        if (domain != Adapter.Domain || length == 0
            || Options(null, maximumAddress, flags, cacheType) is not { } options)
        {
            return NtStatus.InvalidParameter;
        }
        virtualAddress = Allocate(length, options, out logicalAddress);
        return virtualAddress is null ? NtStatus.InsufficientResources : NtStatus.Success;
    }

    /// <summary>FreeCommonBuffer: ends the device's reach, then gives the memory back.</summary>
    /// <remarks>At PASSIVE_LEVEL. All of it, exactly as it was allocated.</remarks>
    /// <param name="length">As it was allocated.</param>
    /// <param name="logicalAddress">As it was allocated.</param>
    /// <param name="virtualAddress">The buffer.</param>
    /// <param name="cacheEnabled">As it was allocated.</param>
    /// <exception cref="InvalidOperationException">Length or address is not the buffer's, it was freed before, is
    /// another adapter's, or one of a vector.</exception>
    public void FreeCommonBuffer(
        ulong length, LogicalAddress logicalAddress, CommonBuffer virtualAddress, bool cacheEnabled)
    {
        Enter(DdiFunction.FreeCommonBuffer);
        ArgumentNullException.ThrowIfNull(virtualAddress);
        VerifyFree(virtualAddress, logicalAddress, length);
        if (virtualAddress.Adapter != Adapter || virtualAddress.IsOfVector)
        {
            throw new InvalidOperationException(virtualAddress.IsOfVector
                ? $"{Driver} frees the common buffer at {logicalAddress}, which is one of a vector: "
                    + "free it through that"
                : $"{Driver} frees a common buffer of {virtualAddress.Adapter.Driver} "
                    + $"{virtualAddress.Adapter.Device}");
        }
        if (length != virtualAddress.Length || logicalAddress != virtualAddress.Address || !virtualAddress.IsLive)
        {
            throw new InvalidOperationException(virtualAddress.IsLive
                ? $"{Driver} frees {length} bytes at {logicalAddress} of a common buffer of {virtualAddress.Length} "
                    + $"bytes at {virtualAddress.Address}: all of it or nothing"
                : $"{Driver} frees the common buffer at {logicalAddress} twice");
        }
        virtualAddress.Dispose();
    }

    private CommonBuffer? Allocate(ulong length, CommonBufferOptions options, out LogicalAddress logicalAddress)
    {
        logicalAddress = default;
        if (length == 0) { return null; }
        try
        {
            CommonBuffer buffer = Adapter.AllocateCommonBuffer(length, options, nameof(AllocateCommonBuffer), Driver);
            logicalAddress = buffer.Address;
            return buffer;
        }
        // No memory or space; or bounds that hold no such buffer.
        catch (Exception e) when (e is DmaException or ArgumentOutOfRangeException) { return null; }
    }

    private static CommonBufferOptions? Options(
        LogicalAddress? first, LogicalAddress? last, DomainCommonBufferFlags flags, MemoryCachingType? cacheType)
    {
        if (cacheType is not (null or MemoryCachingType.Cached or MemoryCachingType.NonCached)) { return null; }
        return flags switch
        {
            DomainCommonBufferFlags.None => new() { FirstAddress = first, LastAddress = last },
            DomainCommonBufferFlags.LargePage => new()
            {
                FirstAddress = first,
                LastAddress = last,
                LargePages = true,
                AlignmentLog2 = LargePageLog2,
            },
            _ => null,
        };
    }
}
