namespace Sluice.Dma.Wdm;

/// <summary>
/// The DMA of a machine as WDM drivers see it: IoGetDmaAdapter, and the system's DMA controller.
/// </summary>
/// <remarks>Safe from any thread. It owns nothing: dispose the <see cref="DmaSystem"/> below as usual.</remarks>
public sealed class WdmDma
{
    // Longer operations than this get their registers, but no promise that one of them always finds tables.
    private const uint LongestReserved = 16 << 20;

    private readonly List<WdmAdapter> _adapters = [];

    /// <summary>WDM's view of a machine's DMA.</summary>
    /// <param name="system">What does the work.</param>
    /// <param name="controller">The controller that moves the data of subordinate devices; null without one.</param>
    public WdmDma(DmaSystem system, ISystemDmaController? controller = null)
    {
        ArgumentNullException.ThrowIfNull(system);
        (System, Controller) = (system, controller);
    }

    /// <summary>What does the work.</summary>
    public DmaSystem System { get; }

    /// <summary>The controller of subordinate devices, or null.</summary>
    public ISystemDmaController? Controller { get; }

    /// <summary>
    /// IoGetDmaAdapter: an adapter for a device, and how many map registers it may use for a transfer.
    /// </summary>
    /// <remarks>At PASSIVE_LEVEL. One adapter for a device at a time.</remarks>
    /// <param name="device">The device object; its PDO is the PCI function.</param>
    /// <param name="description">What the device can do.</param>
    /// <param name="numberOfMapRegisters">Registers for <see cref="WdmDeviceDescription.MaximumLength"/> bytes and one
    /// more, or fewer where there are not so many; the driver splits what is longer.</param>
    /// <returns>Null when the version is unknown, the description makes no sense, the device is blocked or there is no
    /// such controller or channel, or nothing could ever be mapped for the device.</returns>
    /// <exception cref="IrqlException">The level is not PASSIVE_LEVEL.</exception>
    public WdmAdapter? IoGetDmaAdapter(
        WdmDeviceObject device, WdmDeviceDescription description, out int numberOfMapRegisters)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(description);
        WdmVerification.CheckLevel(System.Verifier, DdiFunction.IoGetDmaAdapter, device);
        IrqlScheduler.Check(DdiFunction.IoGetDmaAdapter, device.Driver);
        numberOfMapRegisters = 0;
        Verify(device, description);
        if (Describe(description) is not { } idiomatic) { return null; }
        DmaAdapter adapter;
        try { adapter = System.CreateAdapter(device.PhysicalDevice, idiomatic, device.Driver); }
        catch (Exception e) when (e is InvalidOperationException or DmaException or Remapping.RemappingException)
        {
            return null;
        }
        numberOfMapRegisters = adapter.Provide(description.RegistersWanted);
        // Without a unit a page within reach needs no copy: one is always worth trying.
        if (numberOfMapRegisters == 0 && !adapter.Capabilities.IsRemapped) { numberOfMapRegisters = 1; }
        if (numberOfMapRegisters == 0)
        {
            // Nothing could ever be mapped for it.
            adapter.Dispose();
            return null;
        }
        WdmAdapter made =
            new(this, device, description, adapter, numberOfMapRegisters, SetAside(adapter, numberOfMapRegisters));
        lock (_adapters) { _adapters.Add(made); }
        return made;
    }

    /// <summary>
    /// PutDmaAdapter, as a driver calls it: through the pointer it got, whether it looked at it or not.
    /// </summary>
    /// <remarks>At DISPATCH_LEVEL or below. Without an adapter it does nothing but break a rule.</remarks>
    /// <param name="device">The driver's device object.</param>
    /// <param name="adapter">What <see cref="IoGetDmaAdapter"/> answered.</param>
    public void PutDmaAdapter(WdmDeviceObject device, WdmAdapter? adapter)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (adapter is not null) { adapter.PutDmaAdapter(); }
        else if (System.Verifier is { } verifier)
        {
            WdmVerification.Tell(verifier, DdiFunction.PutDmaAdapter, device, VerificationRule.NoAdapter,
                "PutDmaAdapter was given no adapter");
        }
    }

    /// <summary>
    /// HalGetAdapter: how drivers got adapters before there was a WDM. It never gives one, and breaks a rule.
    /// </summary>
    /// <param name="device">The driver's device object.</param>
    /// <param name="numberOfMapRegisters">0.</param>
    public WdmAdapter? HalGetAdapter(WdmDeviceObject device, out int numberOfMapRegisters)
    {
        ArgumentNullException.ThrowIfNull(device);
        numberOfMapRegisters = 0;
        if (System.Verifier is { } verifier)
        {
            WdmVerification.Tell(verifier, DdiFunction.IoGetDmaAdapter, device,
                VerificationRule.ObsoleteAdapterFunction, "HalGetAdapter is called");
        }
        return null;
    }

    private void Verify(WdmDeviceObject device, WdmDeviceDescription description)
    {
        if (System.Verifier is not { } verifier) { return; }
        bool known = description.Version is >= 0 and <= 3;
        bool had = System.HasAdapter(device.PhysicalDevice);
        if (known && !had) { return; }
        WdmVerification.Tell(verifier, DdiFunction.IoGetDmaAdapter, device,
            known ? VerificationRule.TooManyReferences : VerificationRule.UnknownDescription,
            known ? "an adapter is asked for again, and the first was not put"
                : $"version {description.Version} of a device description is unknown");
    }

    internal void Remove(WdmAdapter adapter)
    {
        lock (_adapters) { _adapters.Remove(adapter); }
    }

    /// <summary>An adapter in a domain, or null.</summary>
    internal WdmAdapter? Find(DmaDomain domain)
    {
        lock (_adapters) { return _adapters.Find(adapter => adapter.Adapter.Domain == domain); }
    }

    private DeviceDescription? Describe(WdmDeviceDescription description)
    {
        if (description.MaximumLength == 0 || description.Version is < 0 or > 3) { return null; }
        if (description.Master)
        {
            return description.AddressBits == 0 ? null
                : new() { AddressBits = description.AddressBits, ScatterGather = description.ScatterGather };
        }
        return Controller is { } controller && controller.Has(description)
            ? new() { AddressBits = controller.AddressBits, ScatterGather = controller.ScatterGather }
            : null;
    }

    // Part of what the map registers promise: one transfer of that size always finds its tables, so that a driver that
    // builds its lists in its own memory gets on when the machine has none left. Only tables are taken when a transfer
    // is mapped; where nothing remaps there is nothing to set aside. Where registers are scarce, none is taken away.
    internal static DmaReservation? SetAside(DmaAdapter adapter, int registers)
    {
        bool scarce = adapter.MapRegisters / 16 < registers;
        if (!adapter.Capabilities.IsRemapped || scarce || registers > LongestReserved >> 12) { return null; }
        DmaReservation reserve;
        try { reserve = adapter.Reserve((uint)registers << 12, registers); }
        catch (DmaException) { return null; }
        // Where logical addresses or pages to copy through are scarce, none are taken away either.
        if (adapter.CouldGrant(registers)) { return reserve; }
        reserve.Dispose();
        return null;
    }
}
