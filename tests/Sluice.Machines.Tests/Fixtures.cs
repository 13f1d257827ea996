using System.Diagnostics;

namespace Sluice.Machines.Tests;

internal static class Fixtures
{
    public static Machine Stepped(int seed = 1, ulong memory = 32 << 20, MachineIommu iommu = MachineIommu.None) =>
        Machine.Create(new() { MemoryBytes = memory, Deterministic = true, Seed = seed, Iommu = iommu });

    public static Machine Threaded(ulong memory = 32 << 20) => Machine.Create(new() { MemoryBytes = memory });

    public static PciFunction Find(this IPlatform platform, PciDevice device) =>
        PciBus.Enumerate(platform).Single(f => f.Address == device.Address);

    public static PhysicalAddress Frame(
        this IPlatform platform, FrameKind kind = FrameKind.Buffer, ulong last = ulong.MaxValue)
    {
        Assert.True(platform.Frames.TryAllocate(kind, 12, out PhysicalAddress frame, new PhysicalAddress(last)));
        return frame;
    }

    public static LogicalAddress Identity(this PhysicalAddress address) => new(address.Value);

    /// <summary>Runs a tool of the system; skips the test, with the reason, where it is absent.</summary>
    public static string RunTool(string tool, string directory, params string[] arguments)
    {
        string[] folders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':');
        bool there = folders.Any(d => File.Exists(Path.Combine(d, tool)));
        Assert.SkipUnless(there, $"{tool} is not on the PATH");
        ProcessStartInfo start = new(tool, arguments) { WorkingDirectory = directory };
        Outcome outcome = ChildProcess.Run(start, TimeSpan.FromSeconds(20));
        outcome.Good();
        return outcome.Output + outcome.Error;
    }
}

/// <summary>A model with everything the base class offers, whose work is what the test says.</summary>
internal sealed class ProbeDevice : PciDevice
{
    public const int Vectors = 70;
    public const uint TableOffset = 0x2000;
    public const uint PendingOffset = 0x3000;

    public ProbeDevice()
        : base("probe", new(0x1234, 0x5678, 0x01_08_02, Revision: 3))
    {
        AddBar(0, 0x4000, is64Bit: true);
        AddMsix(Vectors, 0, TableOffset, PendingOffset);
        AddBar(2, 0x100_0000, prefetchable: true);
    }

    public Func<bool>? Work { get; set; }

    public List<(int Bar, ulong Offset, int Size, ulong Value)> Writes { get; } = [];

    public int Resets { get; private set; }

    public void Raise(int vector) => RaiseMsix(vector);

    public void Poke() => Wake();

    public override ulong ReadBar(int bar, ulong offset, int size) => ((ulong)bar << 32) | (offset << 8) | (uint)size;

    public override void WriteBar(int bar, ulong offset, int size, ulong value) =>
        Writes.Add((bar, offset, size, value));

    public override bool Step() => Work?.Invoke() ?? false;

    public override void Reset() => Resets++;
}
