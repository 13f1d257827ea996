namespace Sluice.Machines.Tests;

public sealed class PinTests : IDisposable
{
    private const int Command = 4;
    private const uint InterruptStatus = 1 << 19;
    private readonly Machine _machine = Fixtures.Stepped();

    public void Dispose() => _machine.Dispose();

    private (PciDevice Device, RegisterWindow Registers) Edu(int slot)
    {
        EduModel device = _machine.Plug(new EduModel(), PciAddress.From(0, slot, 0));
        return (device, _machine.Find(device).MapBar(0));
    }

    // As seen on QEMU 11, by irq_intercept_in and an edu in every slot.
    // Seen failing: slot 30 wired as its neighbours.
    [Theory]
    [InlineData(1, 21)]
    [InlineData(4, 20)]
    [InlineData(5, 21)]
    [InlineData(6, 22)]
    [InlineData(23, 23)]
    [InlineData(24, 20)]
    [InlineData(25, 16)]
    [InlineData(29, 16)]
    [InlineData(30, 20)]
    public void ThePinOfASlotEndsAtTheInputThatQ35GivesIt(int slot, int input)
    {
        (_, RegisterWindow edu) = Edu(slot);
        edu.Write32(0x60, 1);
        Assert.Equal([input], Raised());
        edu.Write32(0x64, 1);
        Assert.Empty(Raised());
    }

    // Seen failing: inputs that forget who else holds them.
    [Fact]
    public void SharedInputsStayUpUntilTheLastLetsGo()
    {
        (_, RegisterWindow one) = Edu(5);
        (_, RegisterWindow other) = Edu(9);
        one.Write32(0x60, 1);
        other.Write32(0x60, 1);
        one.Write32(0x64, 1);
        Assert.Equal([21], Raised());
        other.Write32(0x64, 1);
        Assert.Empty(Raised());
    }

    // Seen failing: the status bit follows the wire.
    [Fact]
    public void InterruptDisableSilencesTheWireAndNotTheStatusBit()
    {
        (PciDevice device, RegisterWindow edu) = Edu(5);
        edu.Write32(0x60, 1);
        device.Config.Write(Command, 2, 0x406);
        Assert.Empty(Raised());
        Assert.Equal(InterruptStatus, device.Config.Read(Command, 4) & InterruptStatus);
        device.Config.Write(Command, 2, 6);
        Assert.Equal([21], Raised());
        edu.Write32(0x64, 1);
        Assert.Equal(0u, device.Config.Read(Command, 4) & InterruptStatus);
    }

    // Seen failing: a pin that stays up when MSI is enabled.
    [Fact]
    public void MessagesTakeThePlaceOfThePin()
    {
        (PciDevice device, RegisterWindow edu) = Edu(5);
        edu.Write32(0x60, 1);
        int delivered = 0;
        using IInterruptLine line = _machine.ConnectInterrupt("edu", () => delivered++);
        PciFunction function = _machine.Find(device);
        function.EnableBusMaster();
        function.EnableMsi(line);
        Assert.Empty(Raised());
        edu.Write32(0x60, 2);
        Assert.True(_machine.RunUntil(() => delivered == 1, 1000));
        Assert.Empty(Raised());
    }

    private IEnumerable<int> Raised() =>
        Enumerable.Range(0, InterruptWires.Inputs).Where(_machine.Wires.IsRaised);
}
