namespace Sluice.Machines.Tests;

public sealed class EduTests : IDisposable
{
    private readonly Machine _machine = Fixtures.Stepped();
    private readonly PciFunction _function;
    private readonly RegisterWindow _edu;
    private readonly IInterruptLine _line;
    private int _interrupts;

    public EduTests()
    {
        _function = _machine.Find(_machine.Plug(new EduModel()));
        _edu = _function.MapBar(0);
        _function.EnableBusMaster();
        _line = _machine.ConnectInterrupt("edu", () => _interrupts++);
        _function.EnableMsi(_line);
    }

    public void Dispose() => _machine.Dispose();

    [Fact]
    public void ItSaysWhatItIs()
    {
        Assert.Equal(
            (0x1234, 0x11E8, 0x00FF00, 0x10),
            (_function.VendorId, _function.DeviceId, _function.ClassCode, _function.Revision));
        Assert.Equal(1UL << 20, Assert.Single(_function.Bars).Size);
        Assert.Equal(0x0100_00EDu, _edu.Read32(0));
        _edu.Write32(4, 0x1234_5678);
        Assert.Equal(~0x1234_5678u, _edu.Read32(4));
    }

    [Fact]
    public void AccessesOfTheWrongWidthAreRefused()
    {
        Assert.Equal(ulong.MaxValue, _edu.Read64(0));
        Assert.Equal(0, _edu.Read8(0));
        Assert.Equal(0, _edu.Read16(0x80));
        _edu.Write64(0, 5UL << 32);
        _edu.Write8(4, 1);
        Assert.Equal(0u, _edu.Read32(4));
        _edu.Write64(0x80, 0x1_0000_0002);
        Assert.Equal(0x1_0000_0002UL, _edu.Read64(0x80));
        Assert.Equal(2u, _edu.Read32(0x80));
        _edu.Write32(0x80, 7);
        Assert.Equal(7UL, _edu.Read64(0x80));
        Assert.Equal(uint.MaxValue, _edu.Read32(0x84));
        Assert.Equal(uint.MaxValue, _edu.Read32(0x4_0000));
    }

    [Theory]
    [InlineData(0u, 1u)]
    [InlineData(1u, 1u)]
    [InlineData(5u, 120u)]
    [InlineData(13u, 1932053504u)]
    [InlineData(34u, 0u)]
    [InlineData(uint.MaxValue, 0u)]
    public void FactorialsAreComputedOnItsOwnTime(uint value, uint expected)
    {
        _edu.Write32(0x20, 0x80);
        _edu.Write32(8, value);
        Assert.Equal(0x81u, _edu.Read32(0x20));
        Assert.Equal(value, _edu.Read32(8));
        _edu.Write32(8, 77);
        Assert.True(_machine.RunUntil(() => _interrupts == 1, 1000));
        Assert.Equal(expected, _edu.Read32(8));
        Assert.Equal(0x80u, _edu.Read32(0x20));
        Assert.Equal(1u, _edu.Read32(0x24));
        _edu.Write32(0x64, 1);
        Assert.Equal(0u, _edu.Read32(0x24));
    }

    [Fact]
    public void RaisingSetsBitsAndSendsAMessage()
    {
        _edu.Write32(0x60, 0x30);
        Assert.True(_machine.RunUntil(() => _interrupts == 1, 100));
        Assert.Equal(0x30u, _edu.Read32(0x24));
        _edu.Write32(0x64, 0x10);
        Assert.Equal(0x20u, _edu.Read32(0x24));
        _machine.RunUntil(static () => false, 50);
        Assert.Equal(1, _interrupts);
    }

    [Fact]
    public void DataMakesTheRoundTripAHundredMillisecondsEachWay()
    {
        PhysicalAddress from = _machine.Frame(last: 0xFFF_FFFF);
        PhysicalAddress to = _machine.Frame(last: 0xFFF_FFFF);
        byte[] bytes = new byte[1000];
        new Random(1).NextBytes(bytes);
        _machine.Memory.TryWrite(from + 10, bytes);
        long start = _machine.Clock.Nanoseconds;
        Transfer(from.Value + 10, 0x4_0100, 1000, 1 | 4);
        Assert.Equal(5UL, _edu.Read64(0x98));
        _edu.Write64(0x80, 99);
        Assert.Equal(from.Value + 10, _edu.Read64(0x80));
        Assert.True(_machine.RunUntil(() => _interrupts == 1, 5_000_000));
        Assert.InRange(_machine.Clock.Nanoseconds - start, 100_000_000, 101_000_000);
        Assert.Equal(4UL, _edu.Read64(0x98));
        Assert.Equal(0x100u, _edu.Read32(0x24));
        Transfer(0x4_0100, to.Value, 1000, 1 | 2);
        Assert.True(_machine.RunUntil(() => (_edu.Read64(0x98) & 1) == 0, 5_000_000));
        byte[] back = new byte[1000];
        _machine.Memory.TryRead(to, back);
        Assert.Equal(bytes, back);
        Assert.Equal(1, _interrupts);
    }

    // Seen failing: a range check that looks at the start only.
    [Theory]
    [InlineData(0x4_0000UL, 0x1001UL)]
    [InlineData(0x4_0FFFUL, 2UL)]
    [InlineData(0x3_FFFFUL, 1UL)]
    [InlineData(0x4_0010UL, ulong.MaxValue - 8)]
    public void ARangeOutsideTheBufferMovesNothingAndEnds(ulong source, ulong count)
    {
        PhysicalAddress to = _machine.Frame(last: 0xFFF_FFFF);
        _machine.Memory.TryWrite64(to, 0x1122_3344_5566_7788);
        Transfer(source, to.Value, count, 1 | 2 | 4);
        Assert.True(_machine.RunUntil(() => _interrupts == 1, 5_000_000));
        Assert.True(_machine.Memory.TryRead64(to, out ulong word));
        Assert.Equal(0x1122_3344_5566_7788UL, word);
        Assert.Equal(4UL | 2, _edu.Read64(0x98));
    }

    // Seen failing: an address used as written.
    [Fact]
    public void AddressesAreCutToTheMask()
    {
        PhysicalAddress to = _machine.Frame(last: 0xFFF_FFFF);
        _machine.Memory.TryWrite64(to, ulong.MaxValue);
        Transfer(0x4_0000, to.Value | 0xABC0_0000_0000, 8, 1 | 2);
        Assert.True(_machine.RunUntil(() => (_edu.Read64(0x98) & 1) == 0, 5_000_000));
        Assert.True(_machine.Memory.TryRead64(to, out ulong word));
        Assert.Equal(0UL, word);
    }

    private void Transfer(ulong source, ulong destination, ulong count, uint command)
    {
        _edu.Write64(0x80, source);
        _edu.Write64(0x88, destination);
        _edu.Write64(0x90, count);
        _edu.Write32(0x98, command);
    }
}
