using Sluice.Formats.Vtd;
using Sluice.Remapping.Vtd;

namespace Sluice.Remapping.Tests;

/// <summary>A start, or an end, that something comes between: nothing stays behind.</summary>
public sealed class HalfStartedTests
{
    private const int TablesOfAUnit = 3;
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);
    private static readonly VtdUnitDescription Tested = new(TestPlatform.UnitRegisters, 0, IncludesAll: true, []);
    private static readonly VtdUnitDescription Sound = new(TestPlatform.SecondRegisters, 0, IncludesAll: false, []);

    private static TestPlatform Platform(params VtdUnitDescription[] units) => new() { Firmware = new(48, units, []) };

    // Seen failing: a start that throws and leaves what it has: the first unit's interrupt stayed connected, and the
    // second one's too where it failed after it was.
    [Theory]
    [InlineData(VtdRegister.RootTableAddress)]
    [InlineData(VtdRegister.FaultEventData)]
    [InlineData(VtdRegister.FaultEventControl)]
    public void UnitsThatWereStartedBeforeOneThatFailsAreLeftAsAtTheEnd(uint register)
    {
        using TestPlatform platform = Platform(Sound, Tested);
        bool masked = false;
        platform.Registers.OnWrite = (offset, value) =>
        {
            // At the end of the start, and not where it begins with masking it.
            bool hit = offset == register && (register != VtdRegister.FaultEventControl || value == 0);
            if (offset == VtdRegister.FaultEventControl) { masked = value == VtdRegister.EventMask; }
            return !hit ? true : throw new InvalidOperationException("the machine is gone");
        };
        RemappingException failure = Assert.Throws<RemappingException>(() => platform.Start());
        Assert.Contains("the machine is gone", failure.Message, StringComparison.Ordinal);
        Assert.Equal((0, 0), (platform.Lines, platform.TestClock.Timers));
        Assert.True(masked);
        Assert.Equal(VtdRegister.EventMask, platform.Second.Registers.Read32(VtdRegister.FaultEventControl)
            & VtdRegister.EventMask);
        // Both units may go on looking at their tables.
        Assert.Equal(2 * TablesOfAUnit, platform.TestFrames.Count(FrameKind.UnitTable));
        // And nothing hinders another try.
        platform.Registers.OnWrite = null;
        using RemappingSystem system = platform.Start();
        Assert.Equal(2, platform.Lines);
    }

    // Seen failing: the same: the tables of units that were not started yet stayed taken.
    [Fact]
    public void AUnitThatWasNotStartedYetKeepsNothingAndIsNotTouched()
    {
        using TestPlatform platform = Platform(Tested, Sound);
        platform.Registers.OnWrite = static (offset, value) =>
            offset != VtdRegister.GlobalCommand || (value & VtdGlobal.SetRootTable) == 0;
        uint events = platform.Second.Registers.Read32(VtdRegister.FaultEventControl);
        Assert.Throws<RemappingException>(() => platform.Start());
        Assert.Equal(TablesOfAUnit, platform.TestFrames.Count(FrameKind.UnitTable));
        Assert.Equal(events, platform.Second.Registers.Read32(VtdRegister.FaultEventControl));
    }

    // Seen failing: a driver's tables, and those of the drivers before it, forgotten where a later step threw.
    [Theory]
    [InlineData(true, 100)]
    [InlineData(false, 0)]
    [InlineData(false, 2)]
    [InlineData(false, TablesOfAUnit)]
    [InlineData(false, 2 * TablesOfAUnit - 1)]
    public void AUnitThatCannotBeDrivenCostsNoFrames(bool silent, int frames)
    {
        using TestPlatform platform = Platform(Sound, Tested);
        if (silent) { platform.Registers.OnRead = static _ => ulong.MaxValue; }
        platform.TestFrames.Budget = frames;
        Assert.Throws<RemappingException>(() => platform.Start());
        Assert.Equal(0, platform.TestFrames.Count(FrameKind.UnitTable));
    }

    // Seen failing: timers kept in a list that was complete or not there: those before the one that failed went on.
    [Fact]
    public void ATimerThatDoesNotStartEndsTheOthers()
    {
        using TestPlatform platform = Platform(Sound, Tested);
        platform.TestClock.OnStart = () =>
        {
            if (platform.TestClock.Timers == 1) { throw new InvalidOperationException("no more timers"); }
        };
        Assert.Throws<InvalidOperationException>(() => platform.Start());
        Assert.Equal((0, 0), (platform.TestClock.Timers, platform.Lines));
    }

    // Seen failing: a domain left in the list, with its tables, that nobody flushes.
    [Fact]
    public void ADomainWhoseTimerDoesNotStartIsNone()
    {
        using TestPlatform platform = Platform(Tested);
        using RemappingSystem system = platform.Start();
        int tables = platform.TestFrames.Count(FrameKind.UnitTable);
        DomainOptions deferred = new() { Policy = InvalidationPolicy.Deferred };
        platform.TestClock.OnStart = static () => throw new InvalidOperationException("no more timers");
        Assert.Throws<InvalidOperationException>(() => system.CreateDomain(deferred));
        Assert.Equal(tables, platform.TestFrames.Count(FrameKind.UnitTable));
        platform.TestClock.OnStart = null;
        using Domain domain = system.CreateDomain(deferred);
    }

    // Seen failing: the end known to others only when all domains were gone: the one made meanwhile stayed, and its
    // device with it.
    [Fact]
    public void WhileASystemEndsNoDomainIsMade()
    {
        using TestPlatform platform = Platform(Tested);
        RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        system.Attach(domain, Device);
        int tables = platform.TestFrames.Count(FrameKind.UnitTable);
        Exception? refused = null;
        platform.Registers.OnWrite = (offset, _) =>
        {
            if (offset != VtdRegister.InvalidationQueueTail) { return true; }
            // The domain's end blocks the device.
            platform.Registers.OnWrite = null;
            refused = Record.Exception(() => system.CreateDomain(new()));
            return true;
        };
        system.Dispose();
        Assert.IsType<ObjectDisposedException>(refused);
        Assert.Equal(tables - 1, platform.TestFrames.Count(FrameKind.UnitTable));
    }
}
