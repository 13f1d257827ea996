namespace Sluice.Machines.Tests;

public sealed class MachineTests
{
    [Theory]
    [InlineData(0UL, "memory too small")]
    [InlineData((16UL << 20) - 4096, "memory too small")]
    [InlineData((16UL << 20) + 1, "not whole pages")]
    [InlineData((1UL << 40) + 4096, "memory too large")]
    public void ImpossibleMemoryIsOneClearLine(ulong bytes, string line)
    {
        MachineException e = Assert.Throws<MachineException>(() => Machine.Create(new() { MemoryBytes = bytes }));
        Assert.Contains(line, e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', e.Message);
    }

    [Theory]
    [InlineData(0x10_0000UL, 0x10_0FFFUL, null)]
    [InlineData(0x10_0800UL, 0x10_0FFFUL, "not whole pages")]
    [InlineData(0x10_0000UL, 0x10_0FFEUL, "not whole pages")]
    [InlineData(0x1000_0000UL, 0x1000_0FFFUL, "not in memory")]
    [InlineData(0x1FF_F000UL, 0x1FF_FFFFUL, "firmware's tables")]
    public void ReservedRegionsAreWholePagesOfLowMemory(ulong first, ulong last, string? line)
    {
        MachineOptions options = new()
        {
            MemoryBytes = 32 << 20, ReservedRegions = [new(new(new(first), new(last)), [])],
        };
        if (line is null)
        {
            using Machine machine = Machine.Create(options);
            Assert.Equal(FrameKind.Absent, machine.Frames.KindOf(new(first)));
            return;
        }
        MachineException error = Assert.Throws<MachineException>(() => Machine.Create(options));
        Assert.Contains(line, error.Message, StringComparison.Ordinal);
    }

    // Seen failing: splitting only above 0xB000_0000, not at it.
    [Theory]
    [InlineData(0xAFFF_F000UL, 0xAFFF_F000UL, 0UL)]
    [InlineData(0xB000_0000UL, 0x8000_0000UL, 0x3000_0000UL)]
    [InlineData(0x1_4000_0000UL, 0x8000_0000UL, 0xC000_0000UL)]
    public void MemoryIsSplitAsOnQ35(ulong bytes, ulong low, ulong high)
    {
        using Machine machine = Machine.Create(new() { MemoryBytes = bytes, Deterministic = true });
        Assert.Equal(low, machine.Memory.Banks[0].Length);
        Assert.True(machine.Memory.TryWrite64(new(low - 8), 1));
        Assert.False(machine.Memory.TryRead64(new(low), out _));
        Assert.Equal(high != 0, machine.Memory.TryWrite64(new(0x1_0000_0000 + high - 8), 2));
        Assert.False(machine.Memory.TryRead64(new(0x1_0000_0000 + high), out _));
    }

    [Fact]
    public void NobodyAnswersOutsideTheMap()
    {
        using Machine machine = Fixtures.Stepped();
        Assert.Throws<ArgumentOutOfRangeException>(() => machine.MapRegisters(new(0xC000_0000), 0x1000));
        Assert.Throws<ArgumentOutOfRangeException>(() => machine.MapRegisters(MachineMap.RemappingUnit, 0x1000));
        Assert.Throws<ArgumentOutOfRangeException>(() => machine.MapRegisters(MachineMap.Ecam.Last, 2));
        Assert.Equal(1u, machine.MapRegisters(MachineMap.Ecam.Last, 1).Length);
    }

    [Fact]
    public void SlotsAreTakenOnceAndRunOut()
    {
        using Machine machine = Fixtures.Stepped();
        RogueDevice first = machine.Plug(new RogueDevice());
        Assert.Equal(PciAddress.From(0, 3, 0), first.Address);
        Assert.Throws<MachineException>(() => machine.Plug(new RogueDevice(), first.Address));
        Assert.Throws<MachineException>(() => machine.Plug(new RogueDevice(), PciAddress.From(1, 0, 0)));
        Assert.Throws<MachineException>(() => machine.Plug(first, PciAddress.From(0, 9, 0)));
        for (int slot = 4; slot < 0x1F; slot++) { machine.Plug(new RogueDevice()); }
        var full = Assert.Throws<MachineException>(() => machine.Plug(new RogueDevice()));
        Assert.Contains("too many devices", full.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AMachineCanBeDisposedWhileItsDevicesWork()
    {
        for (int i = 0; i < 20; i++)
        {
            Machine machine = Fixtures.Threaded();
            PhysicalAddress frame = machine.Frame();
            ProbeDevice probe = machine.Plug(new ProbeDevice());
            byte[] bytes = new byte[4096];
            machine.Find(probe).EnableBusMaster();
            probe.Work = () => probe.Port.Write(frame.Identity(), bytes) == DmaStatus.Completed;
            probe.Poke();
            Assert.True(machine.RunUntil(() => probe.Port.Pieces > 10));
            machine.Dispose();
            machine.Dispose();
            Assert.Empty(machine.Failures);
        }
    }

    [Fact]
    public void AModelThatThrowsStopsAloneAndIsNamed()
    {
        using Machine machine = Fixtures.Threaded();
        ProbeDevice broken = machine.Plug(new ProbeDevice());
        ProbeDevice sound = machine.Plug(new ProbeDevice());
        int steps = 0;
        broken.Work = static () => throw new InvalidOperationException("a bug in the model");
        sound.Work = () => { steps++; return false; };
        broken.Poke();
        Assert.True(machine.RunUntil(() => machine.Failures.Count == 1));
        int before = Volatile.Read(ref steps);
        sound.Poke();
        Assert.True(machine.RunUntil(() => Volatile.Read(ref steps) > before));
        Assert.Equal("probe 0000:00:03.0: a bug in the model", machine.Failures.Single().Message);
    }
}
