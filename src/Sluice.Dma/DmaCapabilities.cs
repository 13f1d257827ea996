using System.Globalization;
using Sluice.Remapping;

namespace Sluice.Dma;

/// <summary>What makes memory reachable for a device.</summary>
public enum DmaBackendKind : byte
{
    /// <summary>Nothing: a logical address is a physical address.</summary>
    Identity,

    /// <summary>Nothing remaps; data is copied through pages that the device can reach where it must be.</summary>
    Bounce,

    /// <summary>A remapping unit with a domain for the device.</summary>
    Remapping,

    /// <summary>A remapping unit, and a pool that stays mapped and data is copied through.</summary>
    Shadow,
}

/// <summary>
/// What stands between a device and memory, and why: the answer to "am I remapped?". Drivers need none of it to be
/// right; administrators, tests and drivers that choose between designs do. A snapshot.
/// </summary>
public sealed record DmaCapabilities
{
    /// <summary>What makes memory reachable.</summary>
    public required DmaBackendKind Kind { get; init; }

    /// <summary>Whether a remapping unit translates and checks the device's DMA.</summary>
    public bool IsRemapped => Kind is DmaBackendKind.Remapping or DmaBackendKind.Shadow;

    /// <summary>When a device loses what was put; null where nothing ever takes it away.</summary>
    public InvalidationPolicy? Policy { get; init; }

    /// <summary>Why it is as it is: one sentence, without its full stop.</summary>
    public required string Reason { get; init; }

    /// <summary>Whether the device is blocked for good: its unit no longer answers.</summary>
    public bool IsBlocked { get; init; }

    /// <summary>Whether the unit holds the device to the direction of each transfer, and common buffers to their
    /// rights.</summary>
    public bool EnforcesRights { get; init; }

    /// <summary>Whether DMA to anything that is not mapped is refused and reported.</summary>
    public bool ReportsFaults { get; init; }

    /// <summary>
    /// The longest transfer, in bytes, whose neighbours in its first and last page the device cannot see; 0 where
    /// protection is by whole pages or there is none.
    /// </summary>
    public uint SubPageIsolation { get; init; }

    /// <summary>
    /// Transfers of up to so many bytes are copied through pages that stay mapped; 0 for none, or for the shadow
    /// policy's all.
    /// </summary>
    public uint CopyThreshold { get; init; }

    /// <summary>
    /// Whether a buffer of scattered pages is one run to the device, so that its list has one element wherever the
    /// device's own limits allow.
    /// </summary>
    public bool Coalesces { get; init; }

    /// <summary>Address bits in use: the device's, or fewer where the unit translates fewer. 12 to 64.</summary>
    public required int AddressBits { get; init; }

    /// <summary>Pages the adapter may have mapped for transfers at once.</summary>
    public int MapRegisters { get; init; }

    /// <summary>Several short lines for a person; the first says whether the device is remapped and why.</summary>
    public override string ToString()
    {
        string state = IsBlocked ? "blocked" : IsRemapped ? "remapped" : "not remapped";
        string isolation = SubPageIsolation switch
        {
            0 => "whole pages only",
            uint.MaxValue => "yes",
            uint bytes => string.Create(CultureInfo.InvariantCulture, $"transfers of up to {bytes} bytes"),
        };
        string registers = MapRegisters == int.MaxValue ? "no limit"
            : MapRegisters.ToString(CultureInfo.InvariantCulture);
        return string.Create(CultureInfo.InvariantCulture, $"""
            {state}: {Reason}
              back-end             {Kind.ToString().ToLowerInvariant()}
              policy               {Policy?.ToString().ToLowerInvariant() ?? "none"}
              rights enforced      {(EnforcesRights ? "yes" : "no")}
              faults reported      {(ReportsFaults ? "yes" : "no")}
              sub-page isolation   {isolation}
              one run per buffer   {(Coalesces ? "yes" : "no")}
              address bits         {AddressBits}
              map registers        {registers}
            """);
    }
}
