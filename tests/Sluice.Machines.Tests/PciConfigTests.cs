namespace Sluice.Machines.Tests;

public sealed class PciConfigTests
{
    private const ushort Address = 0xCF8;
    private const ushort Data = 0xCFC;

    [Fact]
    public void TheChipsetHasQ35sIds()
    {
        using Machine machine = Fixtures.Stepped();
        machine.Ports.Out32(Address, 0x8000_0000);
        Assert.Equal(0x29C0_8086u, machine.Ports.In32(Data));
        machine.Ports.Out32(Address, 0x8000_0008);
        Assert.Equal(0x0600_0000u, machine.Ports.In32(Data));
        machine.Ports.Out32(Address, 0x8000_F800);
        Assert.Equal(0x2918_8086u, machine.Ports.In32(Data));
        machine.Ports.Out32(Address, 0x8000_F808);
        Assert.Equal(0x0601_0002u, machine.Ports.In32(Data));
        machine.Ports.Out32(Address, 0x8000_F80C);
        Assert.Equal(0x80, machine.Ports.In8(Data + 2));
    }

    // Seen failing: the byte lane taken from the address register's low bits alone.
    [Fact]
    public void PortsAnswerEveryWidthInEveryLane()
    {
        using Machine machine = Fixtures.Stepped();
        machine.Ports.Out32(Address, 0x8000_0000);
        Assert.Equal(0x8000_0000u, machine.Ports.In32(Address));
        Assert.Equal([0x86, 0x80, 0xC0, 0x29], Enumerable.Range(Data, 4).Select(p => machine.Ports.In8((ushort)p)));
        Assert.Equal(0x8086, machine.Ports.In16(Data));
        Assert.Equal(0x29C0, machine.Ports.In16(Data + 2));
        Assert.Equal(0xFF, machine.Ports.In8(0x80));
        Assert.Equal(0, machine.Ports.In16(Data + 3));
        machine.Ports.Out8(Address, 0xFF);
        Assert.Equal(0x8000_0000u, machine.Ports.In32(Address));
        machine.Ports.Out32(Address, 0x0000_0000);
        Assert.Equal(uint.MaxValue, machine.Ports.In32(Data));
    }

    // Seen failing: the address register's low bits dropped.
    [Fact]
    public void TheAddressRegistersLowBitsAreOredIntoTheLane()
    {
        using Machine machine = Fixtures.Stepped();
        machine.Ports.Out32(Address, 0x8000_0002);
        Assert.Equal(0x8000_0002u, machine.Ports.In32(Address));
        Assert.Equal(0x29C0, machine.Ports.In16(Data));
        Assert.Equal(0x29C0, machine.Ports.In16(Data + 2));
        Assert.Equal(0x29, machine.Ports.In8(Data + 1));
        machine.Ports.Out32(Address, 0x8000_0001);
        Assert.Equal(0x29_C080u, machine.Ports.In32(Data) & 0xFF_FFFF);
        machine.Ports.Out32(Address, 0x8000_0065);
        machine.Ports.Out16(Data, 0x1234);
        machine.Ports.Out32(Address, 0x8000_0064);
        Assert.Equal(0x12_3400u, machine.Ports.In32(Data));
        machine.Ports.Out32(Address, 0x8000_00FF);
        Assert.Equal(0u, machine.Ports.In32(Data));
    }

    // Seen failing: windows of ECAM that go on answering at the old place.
    [Fact]
    public void EcamMovesWithItsRegister()
    {
        using Machine machine = Fixtures.Stepped();
        RegisterWindow before = machine.MapRegisters(MachineMap.Ecam.First, 1 << 20);
        Assert.Equal(0x29C0_8086u, before.Read32(0));
        before.Write32(0x60, 0xE400_0005);
        Assert.Equal(uint.MaxValue, before.Read32(0));
        Assert.Throws<ArgumentOutOfRangeException>(() => machine.MapRegisters(MachineMap.Ecam.First, 1 << 20));
        Assert.Throws<ArgumentOutOfRangeException>(() => machine.MapRegisters(new(0xE800_0000), 4));
        Assert.Equal(0x29C0_8086u, machine.MapRegisters(new(0xE400_0000), 1 << 26).Read32(0));
        machine.Ports.Out32(Address, 0x8000_0060);
        machine.Ports.Out32(Data, 0xE400_0004);
        Assert.Throws<ArgumentOutOfRangeException>(() => machine.MapRegisters(new(0xE400_0000), 1 << 20));
        machine.Reset();
        Assert.Equal(0x29C0_8086u, before.Read32(0));
    }

    // Seen failing: a reset that leaves the function's registers or the unit as they were, none at all, and one by any
    // bit of the port.
    [Theory]
    [InlineData(0xCF9, 0x06, true)]
    [InlineData(0xCF9, 0x04, true)]
    [InlineData(0xCF9, 0x0A, false)]
    public void ASystemResetIsAskedForByPort(ushort port, byte value, bool resets)
    {
        using Machine machine = Machine.Create(new()
        {
            MemoryBytes = 16 << 20, Iommu = MachineIommu.Vtd, Deterministic = true,
        });
        ProbeDevice probe = machine.Plug(new ProbeDevice());
        PciFunction function = machine.Find(probe);
        function.EnableBusMaster();
        machine.Memory.TryWrite64(new(0x20_0000), 0x1122);
        RegisterWindow unit = machine.MapRegisters(MachineMap.RemappingUnit, 0x1000);
        unit.Write64(0x20, 0x40_0000);
        uint bar = probe.Config.Read(0x10, 4);
        machine.Ports.Out8(port, value);
        Assert.Equal(resets ? 0 : value, machine.Ports.In8(port));
        Assert.Equal(resets ? 1 : 0, probe.Resets);
        Assert.Equal(resets ? 0u : 4, probe.Config.Read(4, 2));
        Assert.Equal(resets ? bar & 0xF : bar, probe.Config.Read(0x10, 4));
        Assert.Equal(resets ? 0UL : 0x40_0000, unit.Read64(0x20));
        Assert.True(machine.Memory.TryRead64(new(0x20_0000), out ulong kept));
        Assert.Equal(0x1122UL, kept);
        // Found again, as after power-on.
        Assert.NotEqual(0u, machine.Find(probe).MapBar(0).Length);
    }

    [Theory]
    [InlineData(0x0000_1000)]
    [InlineData(0x00FF_F000)]
    [InlineData(0x0010_0000)]
    public void AbsentFunctionsReadAllOnesAndSwallowWrites(uint offset)
    {
        using Machine machine = Fixtures.Stepped();
        RegisterWindow ecam = machine.MapRegisters(MachineMap.Ecam.First, 1 << 28);
        Assert.Equal(uint.MaxValue, ecam.Read32(offset));
        Assert.Equal(0xFF, ecam.Read8(offset));
        Assert.Equal(ulong.MaxValue, ecam.Read64(offset));
        ecam.Write32(offset + 4, uint.MaxValue);
        Assert.Equal(0xFFFF, ecam.Read16(offset));
    }

    [Fact]
    public void EcamAndPortsShowTheSameBytes()
    {
        using Machine machine = Fixtures.Stepped();
        ProbeDevice probe = machine.Plug(new ProbeDevice());
        RegisterWindow ecam = machine.MapRegisters(MachineMap.Ecam.First + 0x1_8000, 0x1000);
        for (uint at = 0; at < 0x100; at += 4)
        {
            machine.Ports.Out32(Address, 0x8000_1800 | at);
            Assert.Equal(machine.Ports.In32(Data), ecam.Read32(at));
            Assert.Equal(machine.Ports.In8((ushort)(Data + 3)), ecam.Read8(at + 3));
        }
        Assert.Equal(0x5678_1234UL, ecam.Read64(0) & 0xFFFF_FFFF);
        Assert.Equal(0u, ecam.Read32(0x100));
        Assert.Equal(4096, probe.Config.Length);
    }

    [Fact]
    public void AConventionalFunctionEndsAt256Bytes()
    {
        using Machine machine = Fixtures.Stepped();
        machine.Plug(new EduModel());
        RegisterWindow ecam = machine.MapRegisters(MachineMap.Ecam.First + 0x1_8000, 0x1000);
        Assert.Equal(0x11E8_1234u, ecam.Read32(0));
        Assert.Equal(0x00FF_0010u, ecam.Read32(8));
        Assert.Equal(uint.MaxValue, ecam.Read32(0x100));
    }

    // Seen failing: Describe letting software write the type bits too.
    [Fact]
    public void WritingOnesToABarReadsBackItsSizeAndType()
    {
        using Machine machine = Fixtures.Stepped();
        ProbeDevice probe = machine.Plug(new ProbeDevice());
        PciConfigSpace config = probe.Config;
        for (int at = 0x10; at < 0x28; at += 4) { config.Write(at, 4, uint.MaxValue); }
        Assert.Equal(0xFFFF_C004u, config.Read(0x10, 4));
        Assert.Equal(0xFFFF_FFFFu, config.Read(0x14, 4));
        Assert.Equal(0xFF00_0008u, config.Read(0x18, 4));
        Assert.Equal(0u, config.Read(0x1C, 4));
        config.Write(0x12, 1, 0);
        Assert.Equal(0xFF00_C004u, config.Read(0x10, 4));
    }

    [Fact]
    public void OnlyWritableBitsChange()
    {
        using Machine machine = Fixtures.Stepped();
        ProbeDevice probe = machine.Plug(new ProbeDevice());
        byte[] before = probe.Config.Snapshot();
        var random = new Random(5);
        for (int i = 0; i < 5000; i++)
        {
            int size = 1 << random.Next(3);
            // Not the device control word, whose top bit resets the function.
            int at = random.Next(0x100) & ~(size - 1);
            if (at is < 0x48 or >= 0x4C) { probe.Config.Write(at, size, (uint)random.Next()); }
        }
        byte[] after = probe.Config.Snapshot();
        int[] header = [0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 14, 0x2C, 0x2D, 0x2E, 0x2F, 0x34, 0x3D];
        int[] capabilities = [0x40, 0x41, 0x42, 0x44, 0x7C, 0x7D, 0x7E, 0x80, 0x84];
        Assert.All(header.Concat(capabilities), at => Assert.Equal(before[at], after[at]));
        Assert.NotEqual(before[4], after[4]);
    }

    // Seen failing: a BAR that goes on decoding when memory space is off.
    [Fact]
    public void ABarAnswersOnlyWhereAndWhileItIsDecoded()
    {
        using Machine machine = Fixtures.Stepped();
        ProbeDevice probe = machine.Plug(new ProbeDevice());
        PciFunction function = machine.Find(probe);
        RegisterWindow window = function.MapBar(0);
        Assert.Equal(0x4000u, window.Length);
        Assert.Equal(0x1004u, window.Read32(0x10));
        Assert.Equal(0x1002, window.Read16(0x10));
        Assert.Equal(0x1008UL, window.Read64(0x10));
        window.Write8(0x11, 0xAB);
        Assert.Equal((0, 0x11UL, 1, 0xABUL), Assert.Single(probe.Writes));
        probe.Config.Write(4, 2, 0);
        Assert.Equal(uint.MaxValue, window.Read32(0x10));
        window.Write32(0x10, 1);
        Assert.Single(probe.Writes);
        probe.Config.Write(4, 2, 2);
        Assert.Equal(0x1004u, window.Read32(0x10));
        probe.Config.Write(0x10, 4, 0xD000_0000);
        Assert.Equal(uint.MaxValue, window.Read32(0x10));
        Assert.Equal(0x1004u, machine.MapRegisters(new(0xD000_0010), 4).Read32(0));
        Assert.Throws<ArgumentOutOfRangeException>(() => window.Read32(0x4000));
        Assert.Throws<ArgumentOutOfRangeException>(() => window.Read32(2));
    }

    // Seen failing: a reset that leaves the MSI-X table.
    [Fact]
    public void AFunctionLevelResetClearsWhatSoftwareWrote()
    {
        using Machine machine = Fixtures.Stepped();
        ProbeDevice probe = machine.Plug(new ProbeDevice());
        PciFunction function = machine.Find(probe);
        RegisterWindow window = function.MapBar(0);
        function.EnableBusMaster();
        window.Write32(ProbeDevice.TableOffset + 12, 0);
        function.Reset();
        Assert.Equal(1, probe.Resets);
        Assert.Equal(0u, probe.Config.Read(4, 2));
        Assert.Equal(0u, probe.Config.Read(0x48, 2));
        Assert.Equal(DmaStatus.Refused, probe.Port.Write(new(0x20_0000), new byte[4]));
        Assert.Equal(1u, function.MapBar(0).Read32(ProbeDevice.TableOffset + 12));
    }

    // Seen failing: neither the port nor the configuration space looking whether the access lies inside.
    [Fact]
    public void NoAccessToPortsOrEcamThrowsOrReachesANeighbour()
    {
        using Machine machine = Fixtures.Stepped();
        machine.Plug(new ProbeDevice());
        EduModel edu = machine.Plug(new EduModel());
        byte[] before = edu.Config.Snapshot();
        RegisterWindow ecam = machine.MapRegisters(MachineMap.Ecam.First + 0x1_8000, 0x1000);
        var random = new Random(77);
        for (int i = 0; i < 50_000; i++)
        {
            // Function 00:03.0 only; every port from 0xCF6 to 0xD01, every width, aligned or not.
            machine.Ports.Out32(Address, 0x8000_1800 | (uint)random.Next(256));
            ushort port = (ushort)(Address - 2 + random.Next(12));
            uint value = (uint)random.Next();
            switch (random.Next(8))
            {
                case 0: machine.Ports.In8(port); break;
                case 1: machine.Ports.In16(port); break;
                case 2: machine.Ports.In32(port); break;
                case 3: machine.Ports.Out8(port, (byte)value); break;
                case 4: machine.Ports.Out16(port, (ushort)value); break;
                case 5 when port != Address: machine.Ports.Out32(port, value); break;
                case 6: ecam.Write16((uint)random.Next(0x800) * 2, (ushort)value); break;
                default: ecam.Read64((uint)random.Next(0x200) * 8); break;
            }
        }
        Assert.Equal(before, edu.Config.Snapshot());
        Assert.Empty(machine.Failures);
    }
}
