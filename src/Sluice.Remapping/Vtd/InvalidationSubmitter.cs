using System.Numerics;
using Sluice.Formats.Vtd;
using Sluice.Remapping.Units;
using static Sluice.Remapping.Vtd.QueueRegisters;

namespace Sluice.Remapping.Vtd;

/// <summary>
/// What a VT-d unit is asked to drop. Every call returns when the unit has confirmed; false: it is dead. Safe from any
/// thread.
/// </summary>
/// <remarks>VT-d specification 6.5.2.</remarks>
/// <param name="queue">The unit's queue.</param>
/// <param name="capability">Which forms the unit has.</param>
internal sealed class InvalidationSubmitter(ConfirmedQueue<QueueRegisters> queue, VtdCapability capability)
{
    private readonly int _maximumMask = capability.PageSelective ? capability.MaximumAddressMask : -1;

    /// <summary>Drops a run of pages, or more, from the IOTLB.</summary>
    /// <param name="domainId">The domain.</param>
    /// <param name="range">The run.</param>
    /// <param name="onlyLeaves">No table pointer changed.</param>
    public bool InvalidatePages(ushort domainId, LogicalRange range, bool onlyLeaves)
    {
        // The smallest aligned power of two of pages that holds both ends; a superset is right, less is not.
        int mask = 64 - BitOperations.LeadingZeroCount((range.First.Value ^ range.Last.Value) >> 12);
        if (mask > _maximumMask) { return InvalidateDomain(domainId); }
        return queue.Submit(CommandOf(InvalidationDescriptor.ForIotlb(
            InvalidationGranularity.Selective, domainId, range.First.AlignDown(12 + mask), mask, onlyLeaves)));
    }

    /// <summary>Drops everything of a domain from the IOTLB.</summary>
    /// <param name="domainId">The domain.</param>
    public bool InvalidateDomain(ushort domainId) =>
        queue.Submit(CommandOf(InvalidationDescriptor.ForIotlb(InvalidationGranularity.Domain, domainId)));

    /// <summary>Drops the context entry of a device, and everything that was cached through it.</summary>
    /// <param name="domainId">The domain that the entry named.</param>
    /// <param name="device">The device.</param>
    public bool InvalidateDevice(ushort domainId, RequesterId device) => queue.Submit(
        CommandOf(InvalidationDescriptor.ForContextCache(InvalidationGranularity.Selective, domainId, device)),
        CommandOf(InvalidationDescriptor.ForIotlb(InvalidationGranularity.Domain, domainId)));

    /// <summary>Drops everything.</summary>
    public bool InvalidateAll() => queue.Submit(
        CommandOf(InvalidationDescriptor.ForContextCache(InvalidationGranularity.Global)),
        CommandOf(InvalidationDescriptor.ForIotlb(InvalidationGranularity.Global)));
}
