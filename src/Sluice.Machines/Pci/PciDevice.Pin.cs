namespace Sluice.Machines;

// The interrupt pin: a level that lasts until the model takes it back.
public abstract partial class PciDevice
{
    private readonly Lock _pinLock = new();
    private InterruptWires? _wires;
    private int _input;
    private bool _pinAsserted;
    private bool _wireDriven;

    /// <summary>Declares the interrupt pin INTA.</summary>
    protected void AddPin() => Config.Set8(PciConfig.InterruptPin, 1);

    /// <summary>
    /// Asserts or deasserts the interrupt pin. While MSI or MSI-X is enabled the pin stays down; while software has it
    /// disabled (command bit 10) only the status bit shows it. From any thread, under the model's own locks too.
    /// </summary>
    /// <remarks>PCI Local Bus 3.0, 6.2.2 and 6.2.3: Interrupt Disable, Interrupt Status; 6.8.3.3.</remarks>
    protected void SetPin(bool isAsserted)
    {
        lock (_pinLock)
        {
            _pinAsserted = isAsserted && !IsMsiEnabled && !IsMsixEnabled;
            DrivePin();
        }
    }

    /// <summary>Follows what software wrote; what was asserted when messages were enabled is forgotten.</summary>
    private void ApplyPin()
    {
        lock (_pinLock)
        {
            _pinAsserted &= !IsMsiEnabled && !IsMsixEnabled;
            DrivePin();
        }
    }

    private void ConnectPin(InterruptWires wires)
    {
        int pin = (int)Config.Read(PciConfig.InterruptPin, 1);
        if (pin == 0) { return; }
        PciDevice outer = this;
        for (; outer._bridge is { } bridge; outer = bridge)
        {
            // Every bridge turns the four pins by the slot (PCI-to-PCI Bridge 1.2, 9.1).
            pin = 1 + (pin - 1 + outer.Address.Requester.Device) % 4;
        }
        (_input, _wires) = (InterruptWires.Route(outer.Address.Requester.Device, pin), wires);
    }

    private void DrivePin()
    {
        Config.SetStatus(PciConfig.StatusInterrupt, _pinAsserted);
        bool isDriven = _pinAsserted && _power is not { IsAsleep: true }
            && (Config.Read(PciConfig.Command, 2) & PciConfig.CommandInterruptDisable) == 0;
        if (isDriven == _wireDriven) { return; }
        _wireDriven = isDriven;
        _wires?.Drive(_input, isDriven);
    }
}
