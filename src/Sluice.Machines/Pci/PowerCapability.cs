namespace Sluice.Machines;

/// <summary>
/// PCI power management with the states D0 and D3hot. In D3hot a function answers in configuration space alone: its
/// BARs do not decode, it sends nothing, and what it knows stays (No_Soft_Reset).
/// </summary>
/// <remarks>
/// PCI Bus Power Management 1.2, 3.2: +2 capabilities, +4 control and status. A write of a state that the function does
/// not have changes nothing (3.2.4).
/// </remarks>
internal sealed class PowerCapability
{
    private const ushort Version12 = 3;
    private const ushort NoSoftReset = 1 << 3;
    private const uint StateMask = 3;
    private const uint D0 = 0;
    private const uint D3Hot = 3;
    private readonly PciConfigSpace _config;
    private readonly int _offset;
    private uint _state = D0;

    public PowerCapability(PciConfigSpace config)
    {
        _config = config;
        _offset = config.AddCapability(PciConfig.CapabilityPower, 8);
        config.Set16(_offset + 2, Version12);
        config.Set16(_offset + 4, NoSoftReset);
        config.Allow16(_offset + 4, (int)StateMask);
    }

    /// <summary>Whether the function is in D3hot.</summary>
    public bool IsAsleep => Volatile.Read(ref _state) == D3Hot;

    /// <summary>Takes over what software wrote.</summary>
    public void Update()
    {
        uint wanted = _config.Read(_offset + 4, 2) & StateMask;
        if (wanted is D0 or D3Hot) { Volatile.Write(ref _state, wanted); }
        else { _config.Set16(_offset + 4, (ushort)(NoSoftReset | _state)); }
    }
}
