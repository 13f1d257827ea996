using System.Numerics;

namespace Sluice.Dma.Wdm;

/// <summary>WDFCOMMONBUFFER: a common buffer of an enabler, aligned as the device wants it.</summary>
public sealed class WdfCommonBuffer : IDisposable
{
    private WdfCommonBuffer(CommonBuffer buffer) => Buffer = buffer;

    /// <summary>WdfCommonBufferGetAlignedVirtualAddress: the buffer for the processor.</summary>
    public CommonBuffer Buffer { get; }

    /// <summary>
    /// WdfCommonBufferGetAlignedLogicalAddress: what the device is told; a multiple of the alignment.
    /// </summary>
    public LogicalAddress LogicalAddress => Buffer.Address;

    /// <summary>WdfCommonBufferGetLength: bytes.</summary>
    public ulong Length => Buffer.Length;

    /// <summary>WdfCommonBufferCreateWithConfig.</summary>
    /// <remarks>
    /// At PASSIVE_LEVEL. The alignment is the logical address's, also beyond a page: it is the device that wants it.
    /// Nothing is allocated beside the buffer to get it.
    /// </remarks>
    /// <param name="enabler">The device.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="alignmentRequirement">A mask, one less than a power of two; 0 for none.</param>
    /// <param name="buffer">The buffer; null after an error.</param>
    /// <returns>Success; InvalidParameter: no byte, or no such mask; InsufficientResources.</returns>
    public static NtStatus Create(
        WdfDmaEnabler enabler, ulong length, ulong alignmentRequirement, out WdfCommonBuffer? buffer)
    {
        ArgumentNullException.ThrowIfNull(enabler);
        buffer = null;
        if (length == 0 || !BitOperations.IsPow2(unchecked(alignmentRequirement + 1)))
        {
            return NtStatus.InvalidParameter;
        }
        IrqlScheduler.Check(DdiFunction.AllocateCommonBuffer, enabler.Adapter.Device.Driver);
        CommonBufferOptions options = new() { AlignmentLog2 = BitOperations.PopCount(alignmentRequirement) };
        try
        {
            buffer = new(enabler.Adapter.Adapter.AllocateCommonBuffer(length, options));
            return NtStatus.Success;
        }
        catch (Exception e) when (e is DmaException or ArgumentOutOfRangeException)
        {
            return NtStatus.InsufficientResources;
        }
    }

    /// <summary>Ends the device's reach, then gives the memory back. Harmless twice.</summary>
    public void Dispose() => Buffer.Dispose();
}
