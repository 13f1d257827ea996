namespace Sluice.Dma.Wdm;

/// <summary>WDF_DMA_PROFILE: what kind of DMA a device does.</summary>
public enum WdfDmaProfile
{
    /// <summary>A bus master of 32 bits that takes one element.</summary>
    Packet = 1,

    /// <summary>A bus master that takes lists, of 32 bits.</summary>
    ScatterGather,

    /// <summary>A bus master of 64 bits that takes one element.</summary>
    Packet64,

    /// <summary>A bus master of 64 bits that takes lists.</summary>
    ScatterGather64,

    /// <summary>As <see cref="ScatterGather"/>, with transfers both ways at once: lists do not wait for each
    /// other.</summary>
    ScatterGatherDuplex,

    /// <summary>As <see cref="ScatterGather64"/>, with transfers both ways at once.</summary>
    ScatterGather64Duplex,

    /// <summary>A device whose data the platform's controller moves.</summary>
    System,

    /// <summary>As <see cref="System"/>, both ways. There is one channel, so transfers of the two directions run in
    /// turn.</summary>
    SystemDuplex,
}

/// <summary>WDF_DMA_ENABLER_CONFIG. Immutable.</summary>
public sealed record WdfDmaEnablerConfig
{
    /// <summary>What the device does.</summary>
    public required WdfDmaProfile Profile { get; init; }

    /// <summary>The most bytes of one transfer; what is longer is split.</summary>
    public required uint MaximumLength { get; init; }

    /// <summary>Address bits when the profile's are not right, 24 to 64; 0 for the profile's.</summary>
    public int AddressWidthOverride { get; init; }

    /// <summary>
    /// WdmDmaVersionOverride: 2 or 3, the version of the DMA functions below; 0 for 3. Version 2 is for bus masters of
    /// 32 or 64 bits: nothing can be withdrawn, executed immediately, or required to be one transfer.
    /// </summary>
    public int WdmDmaVersionOverride { get; init; }

    /// <summary>WDF_DMA_ENABLER_CONFIG_NO_SGLIST_PREALLOCATION: lists are got, not built in memory taken
    /// beforehand.</summary>
    public bool NoListPreallocation { get; init; }

    /// <summary>WDF_DMA_ENABLER_CONFIG_REQUIRE_SINGLE_TRANSFER: no transaction is ever split.</summary>
    public bool RequireSingleTransfer { get; init; }

    /// <summary>The longest list the device takes, at least 1.</summary>
    public int MaximumScatterGatherElements { get; init; } = int.MaxValue;

    /// <summary>What the driver does when its device enters or leaves its working state.</summary>
    public WdfDmaEnablerEvents Events { get; init; } = new();

    /// <summary>The subordinate device's line, width and register, for the system profiles; null for the
    /// others.</summary>
    public WdmDeviceDescription? SystemDevice { get; init; }
}

/// <summary>
/// WDFDMAENABLER: a device's DMA as the framework sees it: an adapter, and how long its transfers may be.
/// </summary>
/// <remarks>
/// Duplex profiles share one adapter. Lists do not need its channel, so both directions run at once; with the system
/// profile they share the one channel, and run in turn. Safe from any thread.
/// </remarks>
public sealed partial class WdfDmaEnabler : IDisposable
{
    // KMDF's own rule: what drives less is no bus the framework knows.
    private const int FewestBits = 24;

    private WdfDmaEnabler(WdfDmaEnablerConfig config, WdmAdapter adapter) => (Config, Adapter) = (config, adapter);

    /// <summary>What it was made with.</summary>
    public WdfDmaEnablerConfig Config { get; }

    /// <summary>WdfDmaEnablerWdmGetDmaAdapter: the adapter below.</summary>
    public WdmAdapter Adapter { get; }

    /// <summary>WdfDmaEnablerGetMaximumLength.</summary>
    public uint MaximumLength => Config.MaximumLength;

    /// <summary>
    /// WdfDmaEnablerGetFragmentLength: what one transfer moves at most, wherever in a page it starts, with the map
    /// registers there are.
    /// </summary>
    public uint FragmentLength => (uint)Math.Min(
        MaximumLength, Math.Max((ulong)(Adapter.NumberOfMapRegisters - 1) << 12, 1));

    internal bool TakesLists => Config.Profile is not (WdfDmaProfile.Packet or WdfDmaProfile.Packet64) && !IsSystem;

    internal bool UsesVersion3 => Config.WdmDmaVersionOverride != 2;

    internal bool IsSystem => Config.Profile is WdfDmaProfile.System or WdfDmaProfile.SystemDuplex;

    /// <summary>WdfDmaEnablerCreate.</summary>
    /// <remarks>At PASSIVE_LEVEL.</remarks>
    /// <param name="dma">The machine's DMA.</param>
    /// <param name="device">The device.</param>
    /// <param name="config">What it does.</param>
    /// <param name="enabler">The enabler; null after an error.</param>
    /// <returns>Success; InvalidParameter: a width below 24 or above 64, no length, no device for a system profile, or
    /// a version that is none or cannot do what is asked; InsufficientResources: no adapter.</returns>
    public static NtStatus Create(
        WdmDma dma, WdmDeviceObject device, WdfDmaEnablerConfig config, out WdfDmaEnabler? enabler)
    {
        ArgumentNullException.ThrowIfNull(dma);
        ArgumentNullException.ThrowIfNull(config);
        enabler = null;
        if (Describe(config) is not { } description) { return NtStatus.InvalidParameter; }
        WdmAdapter? adapter = dma.IoGetDmaAdapter(device, description, out _);
        if (adapter is null) { return NtStatus.InsufficientResources; }
        enabler = new(config, adapter);
        return NtStatus.Success;
    }

    /// <summary>Ends the device's DMA, as when its driver's framework objects are deleted.</summary>
    public void Dispose() => Adapter.PutDmaAdapter();

    private static WdmDeviceDescription? Describe(WdfDmaEnablerConfig config)
    {
        if (config.MaximumLength == 0 || config.MaximumScatterGatherElements < 1) { return null; }
        if (config.AddressWidthOverride is not 0 and (< FewestBits or > 64)) { return null; }
        if (config.WdmDmaVersionOverride is not (0 or 2 or 3)) { return null; }
        bool wide = config.Profile is WdfDmaProfile.Packet64 or WdfDmaProfile.ScatterGather64
            or WdfDmaProfile.ScatterGather64Duplex;
        bool lists = config.Profile is not (WdfDmaProfile.Packet or WdfDmaProfile.Packet64);
        bool system = config.Profile is WdfDmaProfile.System or WdfDmaProfile.SystemDuplex;
        if (config.WdmDmaVersionOverride == 2)
        {
            return system || config.AddressWidthOverride != 0 || config.RequireSingleTransfer ? null : new()
            {
                Version = 2,
                Master = true,
                ScatterGather = lists,
                Dma32BitAddresses = !wide,
                Dma64BitAddresses = wide,
                MaximumLength = config.MaximumLength,
            };
        }
        return config.Profile switch
        {
            WdfDmaProfile.System or WdfDmaProfile.SystemDuplex =>
                config.SystemDevice is { } device ? device with { Master = false, MaximumLength = config.MaximumLength }
                : null,
            _ => new()
            {
                Version = 3,
                Master = true,
                ScatterGather = lists,
                DmaAddressWidth = config.AddressWidthOverride != 0 ? config.AddressWidthOverride : wide ? 64 : 32,
                MaximumLength = config.MaximumLength,
            },
        };
    }
}
