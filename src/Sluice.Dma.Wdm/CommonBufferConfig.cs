namespace Sluice.Dma.Wdm;

/// <summary>
/// DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION: one more thing to say about a common buffer over an MDL. Each kind at most
/// once.
/// </summary>
public abstract record CommonBufferConfig
{
    private CommonBufferConfig()
    {
    }

    /// <summary>LogicalAddressLimits.</summary>
    /// <param name="MinimumAddress">The lowest logical address it may take.</param>
    /// <param name="MaximumAddress">The last.</param>
    public sealed record LogicalAddressLimits(LogicalAddress MinimumAddress, LogicalAddress MaximumAddress)
        : CommonBufferConfig;

    /// <summary>SubSection: a part of one MDL, which may then be in a chain.</summary>
    /// <param name="Offset">The first byte, a multiple of the page size.</param>
    /// <param name="Length">Bytes, a multiple of the page size.</param>
    public sealed record SubSection(ulong Offset, uint Length) : CommonBufferConfig;

    /// <summary>HardwareAccessPermissions: what the device may do; fewer than both needs a remapping unit.</summary>
    /// <param name="Access">Reading, writing or both.</param>
    public sealed record HardwareAccess(DmaAccess Access) : CommonBufferConfig;
}
