namespace Sluice.Machines;

/// <summary>MSI with one vector, a 64-bit address and no masking.</summary>
/// <remarks>PCI Local Bus 3.0, 6.8.1: +2 control, +4 address, +8 upper address, +0xC data.</remarks>
internal sealed class MsiCapability
{
    private readonly Lock _lock = new();
    private readonly PciConfigSpace _config;
    private readonly int _offset;
    private DmaPort? _port;
    private bool _enabled;

    public MsiCapability(PciConfigSpace config)
    {
        _config = config;
        _offset = config.AddCapability(PciConfig.CapabilityMsi, 0xE);
        config.Set16(_offset + 2, PciConfig.Msi64);
        config.Allow16(_offset + 2, PciConfig.MsiEnable);
        config.Allow32(_offset + 4, ~3u);
        config.Allow32(_offset + 8, uint.MaxValue);
        config.Allow16(_offset + 0xC, 0xFFFF);
    }

    public bool IsEnabled => Volatile.Read(ref _enabled);

    public void Connect(DmaPort port) => _port = port;

    public void Update() => Volatile.Write(ref _enabled, (_config.Read(_offset + 2, 2) & PciConfig.MsiEnable) != 0);

    public void Raise()
    {
        if (!IsEnabled) { return; }
        lock (_lock)
        {
            ulong address = _config.Read(_offset + 4, 4) | ((ulong)_config.Read(_offset + 8, 4) << 32);
            _port?.Send(new(new(address), _config.Read(_offset + 0xC, 2)));
        }
    }
}
