namespace Sluice.Machines.Tests;

/// <summary>The interrupt window is a fact of the machine, and a machine may have none.</summary>
public sealed class InterruptWindowTests
{
    private static readonly PhysicalAddress Inside = new(0x100_0000);
    private static readonly LogicalRange Elsewhere = LogicalRange.FromLength(new(Inside.Value), 0x1000);

    private static Machine Build(LogicalRange? window) => Machine.Create(
        new() { MemoryBytes = 32 << 20, Deterministic = true, InterruptWindow = window });

    private static RogueDevice Plug(Machine machine)
    {
        RogueDevice device = machine.Plug(new RogueDevice());
        machine.Find(device).EnableBusMaster();
        return device;
    }

    // Seen failing: the window of a PC known by heart in DmaPort: 4 bytes to the last address were memory, and those to
    // FEE0_0000 a message, in each of these machines.
    [Theory]
    [InlineData(0, 4, true)]
    [InlineData(0xFFC, 4, true)]
    [InlineData(0x1000, 4, false)]
    [InlineData(-4, 4, false)]
    [InlineData(0, 8, false)]
    public void Write_OfFourBytesInTheWindow_IsAMessageAndNoMemory(int offset, int length, bool isMessage)
    {
        using Machine machine = Build(Elsewhere);
        RogueDevice device = Plug(machine);
        PhysicalAddress at = new(Inside.Value + (ulong)offset);
        byte[] bytes = [7, 0, 0, 0, 7, 0, 0, 0];
        Assert.Equal(DmaStatus.Completed, device.Port.Write(at.Identity(), bytes.AsSpan(0, length)));
        Assert.True(machine.Memory.TryRead32(at, out uint word));
        Assert.Equal(isMessage ? (0u, 1L) : (7u, 0L), (word, machine.Interrupts.Delivered));
        Assert.Equal(DmaStatus.Refused, device.Port.Write(MachineMap.InterruptWindow.First, [7, 0, 0, 0]));
        Assert.Equal((1, isMessage ? 1 : 0), (device.Port.MasterAborts, device.Port.Messages));
    }

    // Seen failing: a window of length 0 that holds its first address: 4 bytes at 0 were a message.
    [Theory]
    [InlineData(0UL)]
    [InlineData(0x100_0000UL)]
    public void Write_OnAMachineWithoutAWindow_IsMemory(ulong address)
    {
        using Machine machine = Build(null);
        RogueDevice device = Plug(machine);
        Assert.Null(machine.InterruptWindow);
        Assert.Equal(DmaStatus.Completed, device.Port.Write(new(address), [1, 2, 3, 4]));
        Assert.True(machine.Memory.TryRead32(new(address), out uint word));
        Assert.Equal((0x0403_0201u, 0L), (word, machine.Interrupts.Delivered));
        // Where no memory is, there is nothing else either.
        Assert.Equal(DmaStatus.Refused, device.Port.Write(MachineMap.InterruptWindow.First, [1, 2, 3, 4]));
        Assert.Equal((1, 0), (device.Port.MasterAborts, device.Port.Messages));
    }

    // Seen failing: a message to address 0 for the driver to program.
    [Fact]
    public void ConnectInterrupt_OnAMachineWithoutAWindow_IsRefused()
    {
        using Machine machine = Build(null);
        Assert.Contains("disk has to poll", Assert.Throws<InvalidOperationException>(
            () => machine.ConnectInterrupt("disk", static () => { })).Message, StringComparison.Ordinal);
    }

    // Seen failing: the address of a PC in every line's message.
    [Fact]
    public void ConnectInterrupt_WithTheWindowElsewhere_NamesItAndIsReached()
    {
        using Machine machine = Build(Elsewhere);
        RogueDevice device = Plug(machine);
        int calls = 0;
        using IInterruptLine line = machine.ConnectInterrupt("line", () => calls++);
        Assert.True(Elsewhere.Contains(line.Message.Address));
        Assert.Equal(DmaStatus.Completed, device.Port.Send(line.Message));
        Assert.True(machine.RunUntil(() => calls == 1));
    }
}
