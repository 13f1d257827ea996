using Sluice.Remapping;

namespace Sluice.Dma;

/// <summary>What stands between devices and memory.</summary>
public enum DmaIommu : byte
{
    /// <summary>
    /// What the firmware's tables describe: their units, or nothing where they name none. Damaged tables that may have
    /// named one are refused at the start.
    /// </summary>
    Firmware,

    /// <summary>Nothing: a logical address is a physical address, and no DMA is ever blocked.</summary>
    None,

    /// <summary>Intel VT-d units, discovered from the firmware's tables; without one nothing starts.</summary>
    Vtd,
}

/// <summary>How a <see cref="DmaSystem"/> is set up. Immutable.</summary>
public sealed record DmaOptions
{
    /// <summary>
    /// What stands between devices and memory. By default what the machine has: only who asks for
    /// <see cref="DmaIommu.None"/> leaves a unit unused.
    /// </summary>
    public DmaIommu Iommu { get; init; }

    /// <summary>When a device loses what was put. Without a unit nothing is ever lost and this says nothing.</summary>
    public InvalidationPolicy Policy { get; init; }

    /// <summary>Sizes and patience of the remapping side.</summary>
    public RemappingOptions Remapping { get; init; } = new();

    /// <summary>The pool of each adapter under the shadow policy; its limit follows from the device.</summary>
    public ShadowPoolOptions Shadow { get; init; } = new();

    /// <summary>
    /// Transfers of up to so many bytes are copied through pages that stay mapped, whatever the policy: cheaper than a
    /// mapping and its invalidation when they are short. <c>sluice bench copy-or-map</c> measures where that ends. 0,
    /// the default, maps all; <see cref="Shadow"/> says how large the pool and its slots may be.
    /// </summary>
    /// <remarks>
    /// The device never reaches the buffer of such a transfer. It keeps reaching the copy until the page is used for
    /// the next one, and doing so late is no fault: nothing is reported.
    /// </remarks>
    public uint CopyThreshold { get; init; }

    /// <summary>
    /// Memory for copying, for devices that need it where there is no unit; null to refuse what they cannot reach.
    /// Behind a unit only devices that are not trusted need it, and have it in any case.
    /// </summary>
    public BounceOptions? Bounce { get; init; }

    /// <summary>
    /// Whether a device may see the rest of a page that a transfer does not fill. Firmware knows: what sits behind a
    /// port that faces outside is not trusted. Where it may not, partial pages are copied, and its domain is strict or
    /// shadow; without a unit that takes <see cref="Bounce"/>. Asked once for each adapter.
    /// </summary>
    public Func<PciAddress, bool> Trusts { get; init; } = static _ => true;

    /// <summary>
    /// Mappings given back that each adapter still remembers, at least 1, and as many that the system remembers of all
    /// adapters that were disposed. A record is about 250 bytes.
    /// </summary>
    public int RecentMappings { get; init; } = 1024;

    /// <summary>Pages each adapter may have mapped for transfers at once, at least 1.</summary>
    public int MapRegistersPerAdapter { get; init; } = int.MaxValue;

    /// <summary>
    /// Faults that wait to be told to subscribers, at least 8. No device takes more than a quarter of that, and one of
    /// which nothing waits gets in until twice as many wait: for so many, places of about 800 bytes are made when the
    /// system starts.
    /// </summary>
    public int PendingReports { get; init; } = 256;

    /// <summary>
    /// How often waiting reports are delivered, in nanoseconds; and how often channel requests that wait for nothing
    /// but memory of the machine are tried again.
    /// </summary>
    public long ReportPeriodNanoseconds { get; init; } = 2_000_000;

    /// <summary>Names for memory that is no buffer, for reports; null when nobody knows any.</summary>
    public IPhysicalRegionNames? RegionNames { get; init; }

    /// <summary>
    /// Whether the rules of the DDI are checked. <see cref="VerificationMode.Log"/> in Debug builds of this library,
    /// else <see cref="VerificationMode.Off"/>; the runtime option <c>Sluice.Dma.Verification</c> (a mode's name, in
    /// runtimeconfig.json or by <see cref="AppContext"/>) changes that without a build.
    /// </summary>
    public VerificationMode Verification { get; init; } =
        ModeOf(AppContext.GetData("Sluice.Dma.Verification"));

    /// <summary>
    /// With verification, whether transfers are copied through guarded pages: that finds what a device writes just
    /// outside a buffer, and every early touch by the processor, at the price of two copies.
    /// </summary>
    public bool VerificationGuards { get; init; }

    /// <summary>
    /// With verification, the cache line as a power of two where devices do not see the caches, 0 to 12; 0 where they
    /// do, as everywhere on x86.
    /// </summary>
    public int VerificationCacheLineLog2 { get; init; }

    internal void Validate()
    {
        Bounce?.Validate();
        ArgumentNullException.ThrowIfNull(Trusts);
        ArgumentOutOfRangeException.ThrowIfLessThan(RecentMappings, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(MapRegistersPerAdapter, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(PendingReports, 8);
        ArgumentOutOfRangeException.ThrowIfLessThan(ReportPeriodNanoseconds, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((byte)Verification, (byte)VerificationMode.Break);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)VerificationCacheLineLog2, 12u);
    }

    /// <summary>The mode that the runtime option asks for, or the build's own.</summary>
    internal static VerificationMode ModeOf(object? option)
    {
        if (Enum.TryParse(option as string, ignoreCase: true, out VerificationMode wanted)) { return wanted; }
#if DEBUG
        return VerificationMode.Log;
#else
        return VerificationMode.Off;
#endif
    }
}
