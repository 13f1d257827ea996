using Sluice.Formats.Vtd;
using Sluice.Remapping.Units;

namespace Sluice.Remapping.Vtd;

/// <summary>The invalidation queue of a VT-d unit: its registers and the format of its descriptors.</summary>
/// <remarks>VT-d specification 6.5.2; fault handling 6.5.2.10.</remarks>
/// <param name="registers">The unit.</param>
internal readonly struct QueueRegisters(RegisterWindow registers) : IQueueHardware
{
    /// <inheritdoc/>
    public QueueCommand Fence(PhysicalAddress status, uint number) =>
        CommandOf(InvalidationDescriptor.ForWait(status, number));

    /// <inheritdoc/>
    public QueueCommand Widen(QueueCommand refused) => DescriptorOf(refused).Type switch
    {
        InvalidationType.ContextCache =>
            CommandOf(InvalidationDescriptor.ForContextCache(InvalidationGranularity.Global)),
        InvalidationType.Wait => refused,
        _ => CommandOf(InvalidationDescriptor.ForIotlb(InvalidationGranularity.Global)),
    };

    /// <inheritdoc/>
    public CommandKind KindOf(QueueCommand command)
    {
        InvalidationDescriptor descriptor = DescriptorOf(command);
        return (descriptor.Type, descriptor.Granularity) switch
        {
            (InvalidationType.Iotlb, InvalidationGranularity.Selective) => CommandKind.Pages,
            (InvalidationType.Iotlb, InvalidationGranularity.Domain) => CommandKind.Domain,
            (InvalidationType.ContextCache, InvalidationGranularity.Selective) => CommandKind.Device,
            _ => CommandKind.All,
        };
    }

    /// <inheritdoc/>
    public void WriteTail(int slot) =>
        registers.Write64(VtdRegister.InvalidationQueueTail, (ulong)slot << QueueCommand.SizeLog2);

    /// <inheritdoc/>
    public bool HasStopped() => (registers.Read32(VtdRegister.FaultStatus) & VtdFaultStatus.QueueError) != 0;

    /// <inheritdoc/>
    public int ReadHead() => (int)(registers.Read64(VtdRegister.InvalidationQueueHead) >> QueueCommand.SizeLog2);

    /// <inheritdoc/>
    public void Resume(int tail)
    {
        registers.Write32(VtdRegister.FaultStatus, VtdFaultStatus.QueueError);
        WriteTail(tail);
    }

    /// <summary>A descriptor as a command.</summary>
    /// <param name="descriptor">The descriptor.</param>
    public static QueueCommand CommandOf(InvalidationDescriptor descriptor) => new(descriptor.Low, descriptor.High);

    private static InvalidationDescriptor DescriptorOf(QueueCommand command) => new(command.Low, command.High);
}
