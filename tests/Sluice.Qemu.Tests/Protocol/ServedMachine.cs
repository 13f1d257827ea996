using System.Net.Sockets;
using Sluice.Iommu.Vtd;
using Sluice.Machines;
using Sluice.Machines.Qtest;

namespace Sluice.Qemu.Tests.Protocol;

/// <summary>Our machine, served on a thread, and a client; with a monitor on request.</summary>
internal sealed class ServedMachine : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("sq").FullName;
    private readonly Thread _thread;

    public ServedMachine(bool withMonitor = false, MachineIommu iommu = MachineIommu.Vtd, params PciDevice[] devices)
    {
        Machine = Machine.Create(new()
        {
            MemoryBytes = 64 << 20, Iommu = iommu, Vtd = VtdOptions.Qemu, Deterministic = true,
        });
        Machine.Plug(new EduModel(new() { DmaMask = ulong.MaxValue }), PciAddress.From(0, 5, 0));
        Machine.Plug(new IommuTestDevice(), PciAddress.From(0, 7, 0));
        for (int i = 0; i < devices.Length; i++) { Machine.Plug(devices[i], PciAddress.From(0, 8 + i, 0)); }
        string qtest = Path.Combine(_folder, "q"), monitor = Path.Combine(_folder, "m");
        using Socket listener = Listen(qtest);
        using Socket? second = withMonitor ? Listen(monitor) : null;
        _thread = new(() => MachineServer.Serve(Machine, qtest, withMonitor ? monitor : null)) { IsBackground = true };
        _thread.Start();
        Client = new(listener.Accept(), TimeSpan.FromSeconds(60));
        if (second is not null) { Monitor = new(second.Accept()); }
    }

    public Machine Machine { get; }

    public QtestClient Client { get; }

    public MonitorClient? Monitor { get; }

    public static Socket Listen(string path)
    {
        Socket listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen(1);
        return listener;
    }

    public bool Join(TimeSpan limit) => _thread.Join(limit);

    public void Dispose()
    {
        Client.Dispose();
        Monitor?.Dispose();
        _thread.Join();
        Machine.Dispose();
        Directory.Delete(_folder, recursive: true);
    }
}
