namespace Sluice.Machines.Tests;

/// <summary>The contract of <see cref="IPciConfiguration"/>, for every way into configuration space.</summary>
public sealed class PciConfigurationTests
{
    private static readonly PciAddress Probe = PciAddress.From(0, 3, 0);

    public static TheoryData<string> Ways => ["ports", "memory", "firmware"];

    private static IPciConfiguration Open(Machine machine, string way) => way switch
    {
        "ports" => new PciPorts(machine.Ports),
        "memory" => new PciEcam(machine, [new(MachineMap.Ecam.First, 0, 0, 0xFF)]),
        _ => machine.Pci,
    };

    // Seen failing: ports: the data port without the lane of a narrow access; memory: an 8-bit read made as one of 16.
    [Theory]
    [MemberData(nameof(Ways))]
    public void ReadAndWrite_OfEveryWidthAtEveryOffset_ReachTheFunctionsOwnBytes(string way)
    {
        using Machine machine = Fixtures.Stepped();
        ProbeDevice probe = machine.Plug(new ProbeDevice(), Probe);
        IPciConfiguration pci = Open(machine, way);
        for (int at = 0; at < pci.LengthOf(Probe); at += 4)
        {
            uint word = probe.Config.Read(at, 4);
            Assert.Equal(word, pci.Read32(Probe, at));
            for (int lane = 0; lane < 4; lane++)
            {
                Assert.Equal((byte)(word >> (8 * lane)), pci.Read8(Probe, at + lane));
                if (lane % 2 == 0) { Assert.Equal((ushort)(word >> (8 * lane)), pci.Read16(Probe, at + lane)); }
            }
        }
        pci.Write8(Probe, 0x3C, 0xA5);
        Assert.Equal(0xA5u, probe.Config.Read(0x3C, 1));
        pci.Write16(Probe, 0x12, 0xABCD);
        Assert.Equal(0xABCDu, probe.Config.Read(0x12, 2));
        pci.Write32(Probe, 0x14, 0x1234_5678);
        Assert.Equal(0x1234_5678u, probe.Config.Read(0x14, 4));
    }

    // Seen failing: ports: bytes past 256 wrapped round to the first ones; the segment not looked at.
    [Theory]
    [MemberData(nameof(Ways))]
    public void Read_WhereNothingIs_GivesAllOnesOfItsWidth(string way)
    {
        using Machine machine = Fixtures.Stepped();
        machine.Plug(new ProbeDevice(), Probe);
        IPciConfiguration pci = Open(machine, way);
        PciAddress other = new(1, Probe.Requester);
        int length = pci.LengthOf(Probe);
        Assert.Equal(way == "ports" ? 256 : 4096, length);
        Assert.Equal(0, pci.LengthOf(other));
        (PciAddress, int)[] places =
        [
            (PciAddress.From(0, 4, 0), 0), (PciAddress.From(9, 0, 0), 0x10), (other, 0x10), (other, 0xFFC),
            (Probe, length),
        ];
        foreach ((PciAddress function, int at) in places.Where(static one => one.Item2 < 4096))
        {
            pci.Write(function, at, 4, 0);
            Assert.Equal(0xFFFF_FFFF, pci.Read(function, at, 4));
            Assert.Equal(0xFFFFu, pci.Read(function, at, 2));
            Assert.Equal(0xFFu, pci.Read(function, at + 1, 1));
        }
    }

    // Seen failing: no check at all: an access that is not aligned came back as if it were.
    [Theory]
    [MemberData(nameof(Ways))]
    public void Access_ThatDoesNotExist_Throws(string way)
    {
        using Machine machine = Fixtures.Stepped();
        IPciConfiguration pci = Open(machine, way);
        foreach ((int at, int size) in new[] { (2, 4), (1, 2), (0, 3), (0, 8), (0, 0), (-4, 4), (4096, 1) })
        {
            Assert.Throws<ArgumentOutOfRangeException>(() => pci.Read(Probe, at, size));
            Assert.Throws<ArgumentOutOfRangeException>(() => pci.Write(Probe, at, size, 0));
        }
    }

    // Seen failing: a lock of its own for every object that makes cycles: one read what another had asked for.
    [Theory]
    [MemberData(nameof(Ways))]
    public void Access_FromSeveralThreadsAndObjects_IsOneStep(string way)
    {
        using Machine machine = Fixtures.Stepped();
        machine.Plug(new ProbeDevice(), Probe);
        uint[] expected = [0x29C0_8086, 0x2918_8086, 0x5678_1234];
        PciAddress[] functions = [default, PciAddress.From(0, 0x1F, 0), Probe];
        Parallel.For(0, 4, worker =>
        {
            IPciConfiguration pci = Open(machine, way);
            for (int i = 0; i < 20_000; i++)
            {
                int one = (worker + i) % 3;
                Assert.Equal(expected[one], pci.Read32(functions[one], 0));
            }
        });
    }

    // Seen failing: a BAR without an address mapped all the same, at 0: the memory there.
    [Fact]
    public void Enumerate_WithoutABarWindow_LeavesBarsWhereTheyAre()
    {
        using PortsOnlyPlatform platform = new() { BarWindow = null };
        platform.OnRead = static (at, written) => at switch
        {
            0x1800 => 0x1234_8086,
            0x1810 => written == uint.MaxValue ? 0xFFFF_F000u : 0,
            0x1814 => written == uint.MaxValue ? 0xFFFF_F000u : 0xC000_0000,
            _ when at >> 8 != 0x18 => uint.MaxValue,
            _ => 0,
        };
        PciFunction function = Assert.Single(PciBus.Enumerate(platform));
        Assert.Equal([default, new PhysicalAddress(0xC000_0000)], function.Bars.Select(static bar => bar.First));
        Assert.Contains("no address", Assert.Throws<PciException>(() => function.MapBar(0)).Message,
            StringComparison.Ordinal);
    }

    // Seen failing: bridges that ask configuration space without looking whether there is one.
    [Fact]
    public void Enumerate_OnAMachineWithoutPci_FindsNothing()
    {
        using PortsOnlyPlatform platform = new() { HasPci = false };
        Assert.Empty(PciBus.Enumerate(platform));
        Assert.Empty(new PciBridges(null).FunctionsOn(0, 0));
        Assert.Null(new PciBridges(null).SecondaryBusOf(default));
    }
}
