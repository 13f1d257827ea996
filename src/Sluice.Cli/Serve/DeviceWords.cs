using System.Globalization;
using Sluice.Machines;
using Sluice.Machines.Nvme;

namespace Sluice.Cli.Serve;

/// <summary>
/// One <c>--device</c>: <c>edu</c>, <c>nvme,disk=FILE</c> or <c>iommu-testdev</c>, all with an optional
/// <c>addr=SLOT.FUNCTION</c>.
/// </summary>
/// <param name="Kind">Its first word.</param>
/// <param name="Disk">What the controller reads and writes.</param>
/// <param name="Address">Where it is plugged in; null for the first free slot.</param>
/// <param name="DmaMask">The bits that an edu device drives.</param>
internal sealed record DeviceWords(string Kind, string? Disk, PciAddress? Address, ulong DmaMask)
{
    private const string Edu = "edu";
    private const string Nvme = "nvme";
    private const string TestDevice = "iommu-testdev";
    private const ulong EduDefaultMask = (1 << 28) - 1;
    private const int FirstFreeSlot = 1;
    private const int LastFreeSlot = 0x1E;

    /// <summary>Reads the words.</summary>
    /// <exception cref="CommandException">They name no device that there is.</exception>
    public static DeviceWords Parse(string words)
    {
        // As QEMU has it: a comma that belongs to a value is written twice.
        string[] parts =
        [
            .. words.Replace(",,", "\0", StringComparison.Ordinal).Split(',')
                .Select(static part => part.Replace('\0', ',')),
        ];
        if (parts[0] is not (Edu or Nvme or TestDevice))
        {
            throw new CommandException(
                $"--device does not know '{parts[0]}'; use edu, nvme,disk=FILE or iommu-testdev");
        }
        DeviceWords device = new(parts[0], null, null, EduDefaultMask);
        foreach (string part in parts.Skip(1))
        {
            (string name, string value) = part.Split('=', 2) is [var n, var v] ? (n, v) : (part, "");
            device = (name, device.Kind) switch
            {
                ("addr", _) => device with { Address = ParseAddress(value) },
                ("disk", Nvme) => device with { Disk = value },
                ("dma_mask", Edu) => device with { DmaMask = ParseMask(value) },
                _ => throw new CommandException($"--device {parts[0]} has no property '{name}'"),
            };
        }
        if (device is { Kind: Nvme, Disk: null or "" })
        {
            throw new CommandException("--device nvme needs disk=FILE");
        }
        return device;
    }

    /// <summary>Plugs it in.</summary>
    /// <exception cref="CommandException">Its disk cannot be used.</exception>
    /// <exception cref="MachineException">Its slot is taken, or none is left.</exception>
    public void PlugInto(Machine machine)
    {
        PciDevice device = Kind switch
        {
            Nvme => new NvmeModel(OpenDisk()),
            TestDevice => new IommuTestDevice(),
            _ => new EduModel(new() { DmaMask = DmaMask }),
        };
        if (Address is { } address)
        {
            machine.Plug(device, address);
            return;
        }
        for (int slot = FirstFreeSlot; slot <= LastFreeSlot; slot++)
        {
            PciAddress free = PciAddress.From(0, slot, 0);
            if (machine.Functions.Any(function => function.Address.Requester.Device == slot)) { continue; }
            machine.Plug(device, free);
            return;
        }
        throw new MachineException($"too many devices: no slot is left for {device.Name}");
    }

    private FileMedium OpenDisk()
    {
        try
        {
            return FileMedium.Open(Disk!, readOnly: false);
        }
        catch (Exception error) when (ErrorText.IsOfAFile(error))
        {
            throw new CommandException($"cannot open the disk: {ErrorText.Of(error)}");
        }
    }

    /// <summary>As QEMU reads it: two hexadecimal numbers, each with 0x or without; the second may be missing.</summary>
    private static PciAddress ParseAddress(string value)
    {
        const int Slots = 32, Functions = 8;
        int function = 0;
        return value.Split('.') is { Length: 1 or 2 } parts
            && TryHex(parts[0], Slots, out int slot)
            && (parts.Length == 1 || TryHex(parts[1], Functions, out function))
                ? PciAddress.From(0, slot, function)
                : throw new CommandException($"addr={value} is no slot and function; write it as addr=5.0");
    }

    private static bool TryHex(string text, int end, out int value)
    {
        string digits = text.StartsWith("0x", StringComparison.OrdinalIgnoreCase) ? text[2..] : text;
        return int.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value)
            && value >= 0 && value < end;
    }

    private static ulong ParseMask(string value)
    {
        bool isHexadecimal = value.StartsWith("0x", StringComparison.OrdinalIgnoreCase);
        NumberStyles style = isHexadecimal ? NumberStyles.AllowHexSpecifier : NumberStyles.None;
        return ulong.TryParse(isHexadecimal ? value[2..] : value, style, CultureInfo.InvariantCulture, out ulong mask)
            ? mask
            : throw new CommandException($"dma_mask={value} is not a number");
    }
}
