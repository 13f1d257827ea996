namespace Sluice.Drivers.Nvme;

/// <summary>What options and controller agreed on.</summary>
/// <param name="QueueDepth">Commands in flight per queue.</param>
/// <param name="MaxTransferBytes">The longest transfer of one command.</param>
/// <param name="TimeoutTicks">Turns of the watchdog after which a command is aborted.</param>
internal readonly record struct NvmeLimits(int QueueDepth, uint MaxTransferBytes, int TimeoutTicks)
{
    /// <summary>
    /// Turns of the watchdog after which a command that was not even aborted takes the whole controller down.
    /// </summary>
    public int ResetTicks => TimeoutTicks + (TimeoutTicks / 2);
}
