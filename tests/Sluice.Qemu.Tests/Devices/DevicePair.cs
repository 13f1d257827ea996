namespace Sluice.Qemu.Tests.Devices;

/// <summary>QEMU's devices and ours, side by side for many programs.</summary>
internal sealed class DevicePair : IDisposable
{
    private readonly DeviceSide _theirs;
    private readonly DeviceSide _ours;

    public DevicePair()
    {
        byte[] content = new byte[DeviceSide.DiskBytes];
        _theirs = DeviceSide.StartQemu(content, Pin.Processor);
        _ours = DeviceSide.StartOurs(content);
    }

    /// <summary>The first answers that differ, beyond the known differences; null when none do.</summary>
    public string? Differ(IReadOnlyList<DeviceStep> program)
    {
        List<string> theirs = _theirs.Run(side => DeviceProgram.Run(side, program));
        List<string> ours = _ours.Run(side => DeviceProgram.Run(side, program));
        foreach ((string their, string our) in theirs.Zip(ours))
        {
            if (their != our && !Array.Exists(KnownDifference.Programs, known => known.Explains(their, our)))
            {
                return $"  QEMU: {DeviceSide.Short(their)}\n  ours: {DeviceSide.Short(our)}";
            }
        }
        return theirs.Count == ours.Count ? null : $"  QEMU gave {theirs.Count} answers, ours {ours.Count}";
    }

    public void Dispose()
    {
        _theirs.Dispose();
        _ours.Dispose();
    }
}
