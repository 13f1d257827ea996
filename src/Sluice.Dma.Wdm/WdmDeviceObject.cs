namespace Sluice.Dma.Wdm;

/// <summary>An I/O request packet, as far as the DDI knows one: it is handed back to callbacks.</summary>
/// <param name="Context">Whatever the driver keeps with it.</param>
/// <param name="Mdl">The buffer of a read or write; null for none.</param>
public sealed record Irp(object? Context = null, Mdl? Mdl = null);

/// <summary>DEVICE_OBJECT, as far as the DDI looks into one.</summary>
/// <remarks>The DDI takes one waiting channel request for each device object.</remarks>
public sealed class WdmDeviceObject
{
    internal WdmChannelRequest? QueuedChannel;

    /// <summary>A device object of a driver for a PCI function.</summary>
    /// <param name="physicalDevice">The function whose requester id the device's DMA carries.</param>
    /// <param name="driver">The driver's name, for reports.</param>
    public WdmDeviceObject(PciAddress physicalDevice, string driver)
    {
        ArgumentException.ThrowIfNullOrEmpty(driver);
        (PhysicalDevice, Driver) = (physicalDevice, driver);
    }

    /// <summary>The function below (the PDO).</summary>
    public PciAddress PhysicalDevice { get; }

    /// <summary>The driver's name.</summary>
    public string Driver { get; }

    /// <summary>The packet the device works on: callbacks get the one that was set when the request was made.</summary>
    public Irp? CurrentIrp { get; set; }
}
