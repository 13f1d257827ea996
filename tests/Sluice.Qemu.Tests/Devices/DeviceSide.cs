using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Text;
using Sluice.Machines;
using Sluice.Machines.Nvme;
using Sluice.Machines.Qemu;
using Sluice.Machines.Qtest;
using Sluice.Qemu.Tests.Protocol;

namespace Sluice.Qemu.Tests.Devices;

/// <summary>
/// One of the two machines behind a qtest client, with three edu devices and an NVMe controller at the same places, and
/// the transcript of what it answered. The last edu shares its interrupt wire with the NVMe controller.
/// </summary>
internal sealed class DeviceSide : IDisposable
{
    public const ulong NarrowEdu = 0xC000_0000;
    public const ulong WideEdu = 0xC010_0000;
    public const ulong Nvme = 0xC020_0000;
    public const ulong SharingEdu = 0xC030_0000;
    public const int QueuePairs = 8;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    private readonly List<string> _transcript = [];
    private readonly Action _dispose;

    private DeviceSide(QtestClient client, Action dispose)
    {
        (Client, _dispose) = (client, dispose);
        Place(4, NarrowEdu);
        Place(5, WideEdu);
        Place(6, Nvme);
        Place(10, SharingEdu);
        client.InterceptInterruptsInto("ioapic");
    }

    public QtestClient Client { get; }

    /// <summary>
    /// Runs the sequence on QEMU and on ours, and compares what they answered, line by line. Each known difference must
    /// show, and no other.
    /// </summary>
    public static void Compare(Action<DeviceSide> sequence, params KnownDifference[] known)
    {
        byte[] content = new byte[DiskBytes];
        new Random(17).NextBytes(content);
        List<string> theirs, ours, wrong = [];
        HashSet<KnownDifference> unseen = [.. known];
        using (DeviceSide qemu = StartQemu(content)) { theirs = qemu.Run(sequence); }
        using (DeviceSide sluice = StartOurs(content)) { ours = sluice.Run(sequence); }
        Assert.NotEmpty(theirs);
        foreach ((string their, string our) in theirs.Zip(ours))
        {
            if (their == our) { continue; }
            if (Array.Find(known, k => k.Explains(their, our)) is { } why) { unseen.Remove(why); }
            else { wrong.Add($"QEMU: {Short(their)}\nours: {Short(our)}"); }
        }
        wrong.AddRange(unseen.Select(static k => $"no longer differs: {k}"));
        Assert.True(wrong.Count == 0, string.Join("\n\n", wrong));
        Assert.Equal(theirs.Count, ours.Count);
    }

    public static string Short(string line) => line.Length < 200 ? line : line[..200] + "…";

    /// <summary>The disk of both: 2 MiB, 4096 blocks of 512 bytes.</summary>
    public const int DiskBytes = 2 << 20;

    public void Log(string what, ulong value) => _transcript.Add($"{what}: 0x{value:x}");

    public void Log(string what, ReadOnlySpan<byte> bytes) =>
        _transcript.Add($"{what}: {Convert.ToHexStringLower(bytes)}");

    public void Log(string what, string value) => _transcript.Add($"{what}: {value}");

    /// <summary>
    /// What the interrupt wires did since the last call, in order. Input 0 is QEMU's timer (V in docs/differences.md).
    /// </summary>
    public string TakeWires()
    {
        StringBuilder text = new();
        while (Client.TryTakeInterrupt(out QtestInterrupt wire))
        {
            if (wire.Line == 0) { continue; }
            text.Append(CultureInfo.InvariantCulture, $" {(wire.IsRaised ? "raise" : "lower")} {wire.Line}");
        }
        return text.ToString();
    }

    /// <summary>One command line; its answer and what the wires did before it go into the transcript.</summary>
    public void Do(string command)
    {
        string answer;
        try { answer = Client.Command(command); }
        catch (QtestException e) { answer = e.Message; }
        if (command.StartsWith("clock", StringComparison.Ordinal)) { answer = ""; }
        Log(command, $"{answer}{TakeWires()}");
    }

    /// <summary>Until the condition holds: a device of QEMU's may work on threads of its own.</summary>
    public static bool Wait(Func<bool> condition)
    {
        for (long start = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(start) < Patience;)
        {
            if (condition()) { return true; }
        }
        return condition();
    }

    public byte[] Memory(ulong address, int length)
    {
        byte[] bytes = new byte[length];
        Client.ReadBlock(new(address), bytes);
        return bytes;
    }

    public uint Config32(int device, int register)
    {
        Client.Out32(0xCF8, 0x8000_0000 | ((uint)device << 11) | (uint)register);
        return Client.In32(0xCFC);
    }

    public void Dispose() => _dispose();

    public List<string> Run(Action<DeviceSide> sequence)
    {
        _transcript.Clear();
        sequence(this);
        return [.. _transcript];
    }

    private void Place(int device, ulong bar)
    {
        SetConfig32(device, 0x10, (uint)bar);
        if (device == 6) { SetConfig32(device, 0x14, 0); }
        SetConfig32(device, 0x04, 6);
    }

    public void SetConfig32(int device, int register, uint value)
    {
        Client.Out32(0xCF8, 0x8000_0000 | ((uint)device << 11) | (uint)register);
        Client.Out32(0xCFC, value);
    }

    public static DeviceSide StartQemu(byte[] content, int? processor = null)
    {
        string launcher = Qemu.Require();
        string disk = Path.GetTempFileName();
        File.WriteAllBytes(disk, content);
        QemuMachine machine = QemuMachine.Start(new()
        {
            Launcher = launcher, MemoryBytes = 64 << 20, Iommu = MachineIommu.None, Processor = processor,
            Devices =
            [
                "edu,addr=4.0", "edu,addr=5.0,dma_mask=0xffffffffffffffff", "edu,addr=a.0",
                string.Create(CultureInfo.InvariantCulture,
                    $"nvme,drive=d,serial=SLUICE0001,addr=6.0,max_ioqpairs={QueuePairs},msix_qsize={QueuePairs + 1}"),
            ],
            Arguments = ["-drive", $"if=none,id=d,format=raw,snapshot=on,file={disk}"],
        });
        return new(machine.Qtest, () =>
        {
            machine.Dispose();
            File.Delete(disk);
        });
    }

    public static DeviceSide StartOurs(byte[] content)
    {
        Machine machine = Machine.Create(new()
        {
            MemoryBytes = 64 << 20, Iommu = MachineIommu.None, Deterministic = true,
        });
        machine.Plug(new EduModel(), PciAddress.From(0, 4, 0));
        machine.Plug(new EduModel(new() { DmaMask = ulong.MaxValue }), PciAddress.From(0, 5, 0));
        machine.Plug(new EduModel(), PciAddress.From(0, 10, 0));
        NvmeModel nvme = new(new MemoryMedium(content), new() { QueuePairs = QueuePairs });
        machine.Plug(nvme, PciAddress.From(0, 6, 0));
        string path = Path.Combine(Path.GetTempPath(), $"sluice-device-{Guid.NewGuid():N}"[..24]);
        using Socket listener = ServedMachine.Listen(path);
        Thread thread = new(() => MachineServer.Serve(machine, path)) { IsBackground = true };
        thread.Start();
        QtestClient client = new(listener.Accept(), TimeSpan.FromSeconds(20));
        return new(client, () =>
        {
            client.Dispose();
            thread.Join();
            machine.Dispose();
            File.Delete(path);
        });
    }
}
