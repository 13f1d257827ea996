using Sluice.Qemu.Tests.Devices;

namespace Sluice.Qemu.Tests;

/// <summary>One client on both machines: the same IRQ lines, in the same order, between the same answers.</summary>
public sealed class InterruptWireTests
{
    private const ulong First = DeviceSide.NarrowEdu, Second = DeviceSide.WideEdu, Third = DeviceSide.SharingEdu;

    // Seen failing: any acknowledgement lowers; INTA of a slot one input further.
    [Fact]
    public void EduRaisesAndLowersItsPinAlike() => DeviceSide.Compare(static side =>
    {
        foreach (ulong bar in (ulong[])[First, Second, Third])
        {
            side.Do($"writel 0x{bar + 0x60:x} 0");
            side.Do($"writel 0x{bar + 0x60:x} 0x11");
            side.Do($"writel 0x{bar + 0x60:x} 0x2");
            side.Do($"writel 0x{bar + 0x64:x} 0x11");
            side.Do($"writel 0x{bar + 0x64:x} 0");
            side.Do($"writel 0x{bar + 0x64:x} 0xff");
            side.Do($"writel 0x{bar + 0x64:x} 0xff");
        }
        // A factorial in the device's own time, a DMA on the clock.
        side.Do($"writel 0x{Second + 0x20:x} 0x80");
        side.Client.Write32(new(Second + 8), 5);
        DeviceSide.Wait(() => side.Client.Read32(new(Second + 0x24)) != 0);
        side.Log("factorial", side.TakeWires());
        side.Do($"writel 0x{Second + 0x64:x} 1");
        foreach ((int register, ulong value) in ((int, ulong)[])
            [(0x80, 0x20_0000), (0x88, 0x4_0000), (0x90, 64), (0x98, 5)])
        {
            side.Do($"writeq 0x{Second + (ulong)register:x} 0x{value:x}");
        }
        side.Do("clock_step 10000000");
        side.Do("clock_step 100000000");
        side.Do($"readl 0x{Second + 0x24:x}");
        side.Do($"writel 0x{Second + 0x64:x} 0x100");
    });

    // Seen failing: Interrupt Disable ignored.
    [Fact]
    public void TheCommandRegisterAndMsiSilenceThePinAlike() => DeviceSide.Compare(static side =>
    {
        const string Raise = "writel 0xc0100060 1", Lower = "writel 0xc0100064 1";
        void Config(int register, uint value)
        {
            side.Do($"outl 0xcf8 0x{0x8000_2800 | register:x}");
            side.Do($"outl 0xcfc 0x{value:x}");
            side.Do("inl 0xcfc");
            side.Do("outl 0xcf8 0x80002804");
            side.Do("inl 0xcfc");
        }
        side.Do(Raise);
        foreach (uint command in (uint[])[0x406, 0x6, 0xFFFF_0006, 0x406, 0x4, 0x6, 0, 0xFFFF_FFFF, 0x6])
        {
            Config(4, command);
        }
        side.Do(Lower);
        Config(4, 0x406);
        side.Do(Raise);
        side.Do(Lower);
        side.Do(Raise);
        Config(4, 6);
        Config(0x40, 0x0081_0005);
        side.Do(Lower);
        side.Do(Raise);
        Config(0x40, 0x0080_0005);
        side.Do(Raise);
        Config(0x40, 0x0081_0005);
        Config(0x40, 0x0080_0005);
        side.Do(Lower);
        Config(0x3C, 0xFFFF_FFFF);
    });

    // Seen failing: every change of one function told of, whatever the others do.
    [Fact]
    public void SharedWiresAreOredAlike() => DeviceSide.Compare(static side =>
    {
        NvmeClient nvme = new(side);
        nvme.Enable();
        nvme.Holds = true;
        side.Do($"writel 0x{Third + 0x60:x} 1");
        nvme.Admin("while edu is up", 0x0A, d10: 7);
        side.Do($"writel 0x{Third + 0x64:x} 1");
        side.Do($"writel 0x{Third + 0x60:x} 1");
        nvme.Acknowledge(0);
        side.Log("taken", side.TakeWires());
        side.Do($"writel 0x{Third + 0x64:x} 1");
    });

    // Seen failing: masks ignored.
    [Fact]
    public void NvmeRaisesAndLowersItsPinAlike() => DeviceSide.Compare(static side =>
    {
        NvmeClient nvme = new(side);
        nvme.Enable();
        void Mask(string what, uint register, uint value)
        {
            nvme.Write32(register, value);
            side.Log(what, side.TakeWires());
        }
        nvme.Holds = true;
        nvme.Admin("first", 0x0A, d10: 7);
        nvme.Admin("second", 0x0A, d10: 7);
        Mask("mask 1", 0x0C, 2);
        Mask("mask 0", 0x0C, 1);
        Mask("unmask 1", 0x10, 2);
        Mask("unmask 0", 0x10, 1);
        Mask("mask 0", 0x0C, 1);
        nvme.Admin("masked", 0x0A, d10: 7);
        Mask("unmask 0", 0x10, 1);
        Mask("one of three taken", 0x1004, 1);
        nvme.Acknowledge(0);
        side.Log("taken", side.TakeWires());
        nvme.Holds = false;
        nvme.Begin(1, 16);
        nvme.Begin(2, 16);
        const uint Ring16 = 15u << 16;
        nvme.Admin("CQ at vector 1", 0x05, prp1: NvmeClient.CompletionRing(1), d10: 1 | Ring16, d11: 3 | (1 << 16));
        nvme.Admin("CQ 1 with interrupts", 0x05, prp1: NvmeClient.CompletionRing(1), d10: 1 | Ring16, d11: 3);
        nvme.Admin("SQ 1", 0x01, prp1: NvmeClient.SubmissionRing(1), d10: 1 | Ring16, d11: 1 | (1 << 16));
        nvme.Admin("CQ 2 without", 0x05, prp1: NvmeClient.CompletionRing(2), d10: 2 | Ring16, d11: 1);
        nvme.Admin("SQ 2", 0x01, prp1: NvmeClient.SubmissionRing(2), d10: 2 | Ring16, d11: 1 | (2 << 16));
        nvme.Holds = true;
        nvme.Submit(2, "silent flush", 0, ns: 1);
        nvme.Submit(1, "flush", 0, ns: 1);
        nvme.Admin("admin too", 0x0A, d10: 7);
        nvme.Acknowledge(1);
        side.Log("queue 1 taken", side.TakeWires());
        nvme.Acknowledge(0);
        side.Log("queue 0 taken", side.TakeWires());
        nvme.Submit(1, "flush", 0, ns: 1);
        nvme.Holds = false;
        nvme.Admin("delete SQ 1", 0x00, d10: 1);
        nvme.Admin("delete CQ 1 with an entry", 0x04, d10: 1);
        nvme.Holds = true;
        nvme.Admin("before MSI-X", 0x0A, d10: 7);
        uint capability = FindMsix(side);
        uint control = side.Config32(6, (int)capability);
        side.SetConfig32(6, (int)capability, control | (1u << 31));
        side.Log("MSI-X enabled", side.TakeWires());
        nvme.Acknowledge(0);
        nvme.Admin("with MSI-X", 0x0A, d10: 7);
        nvme.Acknowledge(0);
        side.SetConfig32(6, (int)capability, control & ~(1u << 31));
        side.Log("MSI-X disabled", side.TakeWires());
        nvme.Admin("pin again", 0x0A, d10: 7);
    });

    // Seen failing: a reset that leaves the pin of ours up, too.
    [Fact]
    public void AResetLowersThePinOfOursOnly() => DeviceSide.Compare(static side =>
    {
        NvmeClient nvme = new(side);
        nvme.Enable();
        nvme.Holds = true;
        nvme.Admin("before a reset", 0x0A, d10: 7);
        nvme.Disable();
        side.Log("after a reset", side.TakeWires());
        nvme.Enable();
        side.Log("enabled again", side.TakeWires());
        nvme.Admin("after it", 0x0A, d10: 7);
        nvme.Acknowledge(0);
        side.Log("taken", side.TakeWires());
    }, KnownDifference.StuckPin);

    private static uint FindMsix(DeviceSide side)
    {
        uint offset = side.Config32(6, 0x34) & 0xFF;
        for (int i = 0; i < 16 && (side.Config32(6, (int)offset) & 0xFF) != 0x11; i++)
        {
            offset = (side.Config32(6, (int)offset) >> 8) & 0xFF;
        }
        return offset;
    }

    // Seen failing: a second interception of the same object refused.
    [Fact]
    public void InterceptionIsAnsweredAlike() => DeviceSide.Compare(static side =>
    {
        side.Do("irq_intercept_in nothing");
        side.Do("irq_intercept_out nothing");
        side.Do("irq_intercept_in ioapic");
        side.Do("irq_intercept_in /machine/q35/ioapic");
        side.Do("irq_intercept_out ioapic");
        side.Do("irq_intercept_in ioapic name");
        side.Do("irq_intercept_out ioapic name");
        side.Do($"writel 0x{First + 0x60:x} 1");
    });
}
