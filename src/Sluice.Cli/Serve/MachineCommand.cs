using System.CommandLine;
using System.Text.Json;
using Sluice.Cli.Run;
using Sluice.Iommu.Vtd;
using Sluice.Machines;

namespace Sluice.Cli.Serve;

/// <summary><c>sluice machine</c>: serves the in-process machine to a qtest client.</summary>
internal static class MachineCommand
{
    private const string Help = """
        Serves the in-process machine over QEMU's qtest protocol: one client script drives QEMU and this machine alike.
        It connects to SOCKET, as QEMU's -qtest unix:SOCKET does, and ends when the client goes.

        Examples:
          sluice machine --qtest /tmp/qtest.sock --device edu,addr=5.0
          sluice machine --qtest /tmp/qtest.sock --memory 1G --device edu --device nvme,disk=disk.img,addr=6.0
          sluice machine --qtest /tmp/qtest.sock --iommu none --device edu,dma_mask=0xffffffff
          sluice machine --qtest /tmp/qtest.sock --qmp /tmp/qmp.sock --device iommu-testdev,addr=7.0

        Exit status: 0 the client went; 1 usage or tool error, or nobody listens on a socket.
        """;

    /// <summary>The verb.</summary>
    public static Command Create(Terminal terminal)
    {
        Option<string> socket = new("--qtest")
        {
            HelpName = "SOCKET", Description = "The unix socket on which the client listens.", Required = true,
        };
        Option<string?> monitor = new("--qmp")
        {
            HelpName = "SOCKET",
            Description = "Another unix socket on which the client listens, for a monitor: system_reset and quit.",
        };
        Option<string> iommu = new("--iommu")
        {
            HelpName = "vtd|none",
            Description = "The remapping unit; vtd is register for register QEMU's.",
            DefaultValueFactory = static _ => "vtd",
        };
        Option<string> memory = new("--memory")
        {
            HelpName = "SIZE", Description = "The machine's memory.", DefaultValueFactory = static _ => "512M",
        };
        Option<string[]> devices = new("--device")
        {
            HelpName = "edu[,dma_mask=MASK]|nvme,disk=FILE|iommu-testdev",
            Description = "A device, with addr=SLOT.FUNCTION where it shall be plugged in; may be given several times.",
        };
        Option<bool> json = new("--json")
        {
            Description = "One JSON document on standard output when the machine stands: what is plugged in where.",
        };
        Command command = new("machine", Help) { socket, monitor, iommu, memory, devices, json };
        command.SetAction(result => Serve(
            terminal.Output,
            result.GetRequiredValue(socket),
            result.GetValue(monitor),
            result.GetRequiredValue(iommu),
            result.GetRequiredValue(memory),
            [.. (result.GetValue(devices) ?? []).Select(DeviceWords.Parse)],
            result.GetValue(json)));
        return command;
    }

    private static int Serve(
        TextWriter output, string socket, string? monitor, string iommu, string memory,
        IReadOnlyList<DeviceWords> devices, bool json)
    {
        IommuKind kind = IommuWords.Parse(iommu);
        if (!ByteSize.TryParse(memory, out ulong bytes))
        {
            throw new CommandException($"--memory '{memory}' is not a size; write it as 512M");
        }
        OpenFiles.RequireRoom();
        try
        {
            using Machine machine = Machine.Create(new()
            {
                MemoryBytes = bytes,
                Iommu = kind == IommuKind.Vtd ? MachineIommu.Vtd : MachineIommu.None,
                Vtd = VtdOptions.Qemu,
                Deterministic = true,
            });
            // Those with an address first: the others take what is left, as QEMU's do.
            foreach (DeviceWords device in devices.OrderBy(static d => d.Address is null)) { device.PlugInto(machine); }
            if (json)
            {
                MachineDocument document = new(socket, [
                    .. machine.Functions.Select(static f => new MachineFunction(f.Name, f.Address.ToString())),
                ]);
                output.WriteLine(JsonSerializer.Serialize(document, MachineJson.Default.MachineDocument));
            }
            MachineServer.Serve(machine, socket, monitor);
            return ExitCode.Clean;
        }
        catch (Exception error) when (error is MachineException or System.Net.Sockets.SocketException)
        {
            throw new CommandException(ErrorText.Of(error));
        }
    }
}
