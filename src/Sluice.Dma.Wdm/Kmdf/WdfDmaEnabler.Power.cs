namespace Sluice.Dma.Wdm;

/// <summary>
/// EVT_WDF_DMA_ENABLER_FILL and the five others: the driver's part of its device's way into or out of the working
/// state, D0. At PASSIVE_LEVEL.
/// </summary>
/// <returns>Success, or why the step failed.</returns>
public delegate NtStatus WdfDmaEnablerEvent(WdfDmaEnabler enabler);

/// <summary>The callbacks of WDF_DMA_ENABLER_CONFIG, in the order of a device's day. Each may be null.</summary>
public sealed record WdfDmaEnablerEvents
{
    /// <summary>EvtDmaEnablerFill: allocates what the device works with.</summary>
    public WdfDmaEnablerEvent? Fill { get; init; }

    /// <summary>EvtDmaEnablerEnable: switches the device's DMA on.</summary>
    public WdfDmaEnablerEvent? Enable { get; init; }

    /// <summary>EvtDmaEnablerSelfManagedIoStart: starts what nobody asks for, such as receiving.</summary>
    public WdfDmaEnablerEvent? SelfManagedIoStart { get; init; }

    /// <summary>EvtDmaEnablerSelfManagedIoStop: stops that.</summary>
    public WdfDmaEnablerEvent? SelfManagedIoStop { get; init; }

    /// <summary>EvtDmaEnablerDisable: switches the device's DMA off.</summary>
    public WdfDmaEnablerEvent? Disable { get; init; }

    /// <summary>EvtDmaEnablerFlush: frees what <see cref="Fill"/> allocated.</summary>
    public WdfDmaEnablerEvent? Flush { get; init; }
}

// Nothing here sleeps by itself: whoever plays the framework says when the device comes and goes. Which callback a
// failure skips is the rule of the framework's published source, FxDmaEnabler::PowerUp and PowerDown.
public sealed partial class WdfDmaEnabler
{
    private enum Reached
    {
        Down,
        FillFailed,
        EnableFailed,
        StartFailed,
        Up,
    }

    private Reached _reached;

    /// <summary>Whether the device is in its working state: every callback of the way up has succeeded.</summary>
    public bool IsPoweredUp => _reached == Reached.Up;

    /// <summary>
    /// What the framework does after EvtDeviceD0Entry: Fill, Enable, SelfManagedIoStart, until one fails. A failed way
    /// up is undone by <see cref="PowerDown"/>, as a good one.
    /// </summary>
    /// <remarks>At PASSIVE_LEVEL. One thread at a time.</remarks>
    /// <returns>Success; what a callback failed with; InvalidDeviceRequest: the way down is due first.</returns>
    /// <exception cref="IrqlException">The level is not PASSIVE_LEVEL.</exception>
    public NtStatus PowerUp()
    {
        CheckPassive();
        if (_reached != Reached.Down) { return NtStatus.InvalidDeviceRequest; }
        WdfDmaEnablerEvents events = Config.Events;
        NtStatus status = Step(events.Fill, Reached.FillFailed);
        if (status.IsSuccess()) { status = Step(events.Enable, Reached.EnableFailed); }
        if (status.IsSuccess()) { status = Step(events.SelfManagedIoStart, Reached.StartFailed); }
        if (status.IsSuccess()) { _reached = Reached.Up; }
        return status;
    }

    /// <summary>
    /// What the framework does before EvtDeviceD0Exit: SelfManagedIoStop, Disable, Flush, whatever the ones before
    /// answered. Disable is left out when Fill had failed, Flush when Fill or Enable had: such a callback cleans up
    /// after itself.
    /// </summary>
    /// <remarks>At PASSIVE_LEVEL. One thread at a time.</remarks>
    /// <returns>Success; the first failure; InvalidDeviceRequest: there was no way up.</returns>
    /// <exception cref="IrqlException">The level is not PASSIVE_LEVEL.</exception>
    public NtStatus PowerDown()
    {
        CheckPassive();
        if (_reached == Reached.Down) { return NtStatus.InvalidDeviceRequest; }
        WdfDmaEnablerEvents events = Config.Events;
        NtStatus status = Call(events.SelfManagedIoStop);
        if (_reached > Reached.FillFailed) { status = First(status, Call(events.Disable)); }
        if (_reached > Reached.EnableFailed) { status = First(status, Call(events.Flush)); }
        _reached = Reached.Down;
        return status;
    }

    private static NtStatus First(NtStatus earlier, NtStatus later) => earlier.IsSuccess() ? later : earlier;

    // Counts as failed until it has answered, so that one that throws has failed too.
    private NtStatus Step(WdfDmaEnablerEvent? callback, Reached failed)
    {
        _reached = failed;
        return Call(callback);
    }

    private NtStatus Call(WdfDmaEnablerEvent? callback) => callback?.Invoke(this) ?? NtStatus.Success;

    private void CheckPassive()
    {
        if (IrqlScheduler.Level == Irql.Passive) { return; }
        throw new IrqlException(
            IrqlScheduler.Level, $"{Adapter.Device.Driver}: a device changes its power state at PASSIVE_LEVEL, "
            + $"not at {IrqlScheduler.Level} level");
    }
}
