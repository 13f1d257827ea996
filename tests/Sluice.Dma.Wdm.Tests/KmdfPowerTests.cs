namespace Sluice.Dma.Wdm.Tests;

/// <summary>The enabler's callbacks around a device's working state.</summary>
public sealed class KmdfPowerTests
{
    private readonly List<string> _called = [];

    // Which callback fails, and what is called up and down. The framework's own rule for what is skipped.
    // Seen failing: the way up going on after a failure; Flush called after a failed Enable; the way down ending at
    // its first failure; the last failure answered instead of the first.
    [Theory]
    [InlineData("", "Fill Enable Start", "Stop Disable Flush")]
    [InlineData("Fill", "Fill", "Stop")]
    [InlineData("Enable", "Fill Enable", "Stop Disable")]
    [InlineData("Start", "Fill Enable Start", "Stop Disable Flush")]
    [InlineData("Stop Flush", "Fill Enable Start", "Stop Disable Flush")]
    [InlineData("Disable Flush", "Fill Enable Start", "Stop Disable Flush")]
    public void EveryFailureSkipsWhatTheFrameworkSkips(string failing, string up, string down)
    {
        using Lab lab = new("identity");
        string[] failures = failing.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        string? first = failures.FirstOrDefault();
        bool upFails = first is "Fill" or "Enable" or "Start";
        using WdfDmaEnabler enabler = Create(lab, name => failures.Contains(name) ? StatusOf(name) : NtStatus.Success);
        Assert.Equal(NtStatus.InvalidDeviceRequest, enabler.PowerDown());
        for (int day = 0; day < 2; day++)
        {
            Assert.Equal(upFails ? StatusOf(first!) : NtStatus.Success, enabler.PowerUp());
            Assert.Equal(up.Split(' '), _called);
            Assert.Equal(!upFails, enabler.IsPoweredUp);
            Assert.Equal(NtStatus.InvalidDeviceRequest, enabler.PowerUp());
            _called.Clear();
            Assert.Equal(first is null || upFails ? NtStatus.Success : StatusOf(first), enabler.PowerDown());
            Assert.Equal(down.Split(' '), _called);
            Assert.False(enabler.IsPoweredUp);
            _called.Clear();
        }
    }

    // Seen failing: a callback that throws counted as having succeeded.
    [Fact]
    public void ACallbackThatThrowsHasFailed()
    {
        using Lab lab = new("identity");
        using WdfDmaEnabler enabler = Create(
            lab, name => name == "Enable" ? throw new TimeoutException() : NtStatus.Success);
        Assert.Throws<TimeoutException>(() => enabler.PowerUp());
        Assert.False(enabler.IsPoweredUp);
        Assert.Equal(NtStatus.Success, enabler.PowerDown());
        Assert.Equal(["Fill", "Enable", "Stop", "Disable"], _called);
    }

    // Seen failing: no level checked.
    [Fact]
    public void PowerChangesAtPassiveLevelOnly()
    {
        using Lab lab = new("identity");
        using WdfDmaEnabler enabler = Create(lab, _ => NtStatus.Success);
        Assert.Throws<IrqlException>(() => lab.AtDispatch(enabler.PowerUp));
        Assert.Equal(NtStatus.Success, enabler.PowerUp());
        Assert.Throws<IrqlException>(() => lab.AtDispatch(enabler.PowerDown));
        Assert.Equal(NtStatus.Success, enabler.PowerDown());
    }

    // What they are for: buffers that exist only while the device works.
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void TheDeviceReachesItsBufferExactlyWhileItWorks(string backend)
    {
        using Lab lab = new(backend);
        WdfCommonBuffer? ring = null;
        using WdfDmaEnabler enabler = Create(lab, new WdfDmaEnablerEvents
        {
            Fill = e => WdfCommonBuffer.Create(e, 8192, 0, out ring),
            Flush = _ =>
            {
                ring!.Dispose();
                return NtStatus.Success;
            },
        });
        for (int day = 0; day < 3; day++)
        {
            Assert.Equal(NtStatus.Success, enabler.PowerUp());
            LogicalAddress address = ring!.LogicalAddress;
            Assert.True(lab.Platform.DmaWrite(Lab.Slot, address, [1, 2, 3]));
            Assert.Equal(NtStatus.Success, enabler.PowerDown());
            if (lab.IsRemapped && backend != "deferred")
            {
                Assert.False(lab.Platform.DmaWrite(Lab.Slot, address, [4, 5, 6]));
            }
        }
    }

    private static NtStatus StatusOf(string name) => name switch
    {
        "Fill" or "Stop" => NtStatus.InsufficientResources,
        "Enable" or "Disable" => NtStatus.DeviceNotConnected,
        _ => NtStatus.AccessDenied,
    };

    private WdfDmaEnabler Create(Lab lab, Func<string, NtStatus> answer)
    {
        NtStatus Called(string name)
        {
            _called.Add(name);
            return answer(name);
        }
        return Create(lab, new WdfDmaEnablerEvents
        {
            Fill = _ => Called("Fill"),
            Enable = _ => Called("Enable"),
            SelfManagedIoStart = _ => Called("Start"),
            SelfManagedIoStop = _ => Called("Stop"),
            Disable = _ => Called("Disable"),
            Flush = _ => Called("Flush"),
        });
    }

    private static WdfDmaEnabler Create(Lab lab, WdfDmaEnablerEvents events)
    {
        WdfDmaEnablerConfig config = new()
        {
            Profile = WdfDmaProfile.ScatterGather64,
            MaximumLength = 65_536,
            Events = events,
        };
        Assert.Equal(NtStatus.Success, WdfDmaEnabler.Create(lab.Dma, lab.Device, config, out WdfDmaEnabler? enabler));
        return enabler!;
    }
}
