using System.Buffers.Binary;
using System.Globalization;
using Sluice.Qemu.Tests.Devices;

namespace Sluice.Qemu.Tests;

/// <summary>The same client on QEMU's devices and on ours: every answer is the same.</summary>
public sealed class DeviceDifferentialTests
{
    // Seen failing: 8 bytes read below 0x80 as zeros; accesses that are not aligned dropped.
    [Fact]
    public void EduRegistersAnswerAlike() => DeviceSide.Compare(static side =>
    {
        foreach (int register in (int[])[0x00, 0x08, 0x10, 0x2C, 0x3C])
        {
            // Bit 15:0 of dword 3C is the interrupt line: firmware's business.
            side.Log($"config {register:x}", side.Config32(5, register) & (register == 0x3C ? 0xFF00 : uint.MaxValue));
        }
        const ulong Bar = DeviceSide.WideEdu;
        var client = side.Client;
        side.Log("identification", client.Read32(new(Bar)));
        foreach (uint value in (uint[])[0, 0x1234_5678, uint.MaxValue])
        {
            client.Write32(new(Bar + 4), value);
            side.Log("inverted", client.Read32(new(Bar + 4)));
        }
        foreach (uint n in (uint[])[0, 1, 5, 12, 13, 20, 33, 34, 35, 1000])
        {
            client.Write32(new(Bar + 8), n);
            DeviceSide.Wait(() => (client.Read32(new(Bar + 0x20)) & 1) == 0);
            side.Log($"{n}!", client.Read32(new(Bar + 8)));
        }
        client.Write32(new(Bar + 0x20), uint.MaxValue);
        side.Log("status takes bit 7 alone", client.Read32(new(Bar + 0x20)));
        client.Write32(new(Bar + 8), 4);
        DeviceSide.Wait(() => client.Read32(new(Bar + 0x24)) != 0);
        side.Log("interrupt of a factorial", client.Read32(new(Bar + 0x24)));
        client.Write32(new(Bar + 0x64), 1);
        side.Log("acknowledged", client.Read32(new(Bar + 0x24)));
        client.Write32(new(Bar + 0x20), 0);
        client.Write32(new(Bar + 0x60), 0xF0F0_0F0F);
        client.Write32(new(Bar + 0x64), 0xFF00_00FF);
        side.Log("raised, partly acknowledged", client.Read32(new(Bar + 0x24)));
        client.Write32(new(Bar + 0x64), uint.MaxValue);
        Widths(side, Bar);
    });

    private static void Widths(DeviceSide side, ulong bar)
    {
        var client = side.Client;
        for (ulong register = 0; register < 0xB0; register += 4)
        {
            side.Log($"{register:x} in 1", client.Read8(new(bar + register)));
            side.Log($"{register:x} in 2", client.Read16(new(bar + register)));
            side.Log($"{register:x} in 4", client.Read32(new(bar + register)));
            if (register % 8 == 0) { side.Log($"{register:x} in 8", client.Read64(new(bar + register))); }
        }
        side.Log("far", client.Read32(new(bar + 0xF_FFFC)));
        // An access that is not aligned reaches the device in aligned pieces.
        foreach (ulong register in (ulong[])[0x01, 0x02, 0x06, 0x84, 0x7C])
        {
            side.Log($"{register:x} in 4, not aligned", client.Read32(new(bar + register)));
            side.Log($"{register:x} in 8, not aligned", client.Read64(new(bar + register)));
        }
        foreach (ulong register in (ulong[])[0x04, 0x24, 0x80, 0x88, 0x90])
        {
            client.Write8(new(bar + register), 0x11);
            client.Write16(new(bar + register), 0x2222);
            side.Log($"{register:x} after narrow writes", client.Read32(new(bar + register)));
            client.Write32(new(bar + register), 0x3333_3333);
            side.Log($"{register:x} after 4", client.Read32(new(bar + register)));
            client.Write64(new(bar + register), 0x4444_4444_4444_4444);
            side.Log($"{register:x} after 8", client.Read32(new(bar + register)));
            if (register >= 0x80) { side.Log($"{register:x} whole", client.Read64(new(bar + register))); }
        }
        client.Write32(new(bar + 0x84), 7);
        side.Log("upper half alone", client.Read64(new(bar + 0x80)));
    }

    // Seen failing: the mask applied to DMA reads alone.
    [Theory]
    [InlineData(DeviceSide.NarrowEdu)]
    [InlineData(DeviceSide.WideEdu)]
    public void EduDmaMovesTheSameBytes(ulong bar) => DeviceSide.Compare(side =>
    {
        side.Client.WriteBlock(new(0x20_0000), [.. Enumerable.Range(0, 0x2000).Select(static i => (byte)(i * 7 >> 3))]);
        // In, in part, at odd places; then out: plain, across pages, to where only masked addresses have memory.
        EduDma(side, bar, 0x20_0000, 0x4_0000, 0x1000, 1);
        EduDma(side, bar, 0x20_0FF1, 0x4_0003, 0x25, 1);
        EduDma(side, bar, 0x20_1003, 0x4_0FFF, 1, 1);
        EduDma(side, bar, 0x4_0000, 0x30_0000, 0x1000, 3);
        EduDma(side, bar, 0x4_0005, 0x30_1FF0, 0x33, 3);
        EduDma(side, bar, 0x4_0800, 0x1000_0030_4000, 0x100, 3);
        EduDma(side, bar, 0x1000_0020_0080, 0x4_0100, 0x80, 1);
        EduDma(side, bar, 0x4_0000, 0x30_5000, 0x1000, 3);
        EduDma(side, bar, 0x4_0000, 0x30_6000, 0, 3);
        EduDma(side, bar, 0x4_0000, 0x30_7000, 8, 7);
        side.Log("interrupt of the DMA", side.Client.Read32(new(bar + 0x24)));
        side.Client.Write32(new(bar + 0x64), 0x100);
        side.Log("acknowledged", side.Client.Read32(new(bar + 0x24)));
        side.Log("memory", side.Memory(0x30_0000, 0x8000));
        side.Client.Write64(new(bar + 0x98), 2);
        side.Log("a command that does not run", side.Client.Read64(new(bar + 0x98)));
    });

    private static void EduDma(DeviceSide side, ulong bar, ulong source, ulong destination, ulong count, ulong command)
    {
        var client = side.Client;
        client.Write64(new(bar + 0x80), source);
        client.Write64(new(bar + 0x88), destination);
        client.Write64(new(bar + 0x90), count);
        client.Write64(new(bar + 0x98), command);
        // QEMU's clock follows real time besides: far from the 100 ms on both sides.
        client.StepClock(10_000_000);
        side.Log("under way", client.Read64(new(bar + 0x98)));
        client.Write64(new(bar + 0x80), 0x123);
        side.Log("source while under way", client.Read64(new(bar + 0x80)));
        client.StepClock(100_000_000);
        side.Log("done", client.Read64(new(bar + 0x98)));
    }

    // Seen failing: CC kept over a controller reset; a shutdown that never completes.
    [Fact]
    public void NvmeStartsAndStopsAlike() => DeviceSide.Compare(static side =>
    {
        NvmeClient nvme = new(side);
        side.Log("PCI id", side.Config32(6, 0));
        side.Log("PCI class", side.Config32(6, 8) >> 8);
        side.Log("CAP", nvme.Read64(0));
        side.Log("CAP low", nvme.Read32(0));
        side.Log("CAP high", nvme.Read32(4));
        side.Log("VS", nvme.Read32(8));
        side.Log("CC", nvme.Read32(0x14));
        side.Log("CSTS", nvme.Read32(0x1C));
        nvme.Write32(0x00, 0);
        nvme.Write32(0x08, 0);
        nvme.Write32(0x1C, 0);
        side.Log("CAP stays", nvme.Read64(0));
        side.Log("VS stays", nvme.Read32(8));
        nvme.Enable();
        side.Log("CC enabled", nvme.Read32(0x14));
        side.Log("AQA", nvme.Read32(0x24));
        side.Log("ASQ", nvme.Read64(0x28));
        side.Log("ACQ", nvme.Read64(0x30));
        nvme.Admin("first", 0x0A, d10: 7);
        nvme.Write32(0x0C, 0xF5);
        nvme.Write32(0x10, 0x11);
        side.Log("INTMS", nvme.Read32(0x0C));
        side.Log("INTMC", nvme.Read32(0x10));
        nvme.Disable();
        side.Log("INTMS after a reset", nvme.Read32(0x0C));
        side.Log("CSTS disabled", nvme.Read32(0x1C));
        side.Log("CC disabled", nvme.Read32(0x14));
        nvme.Write32(0x14, 0x0046_0000);
        side.Log("CC written while disabled", nvme.Read32(0x14));
        side.Log("AQA stays", nvme.Read32(0x24));
        side.Log("ASQ stays", nvme.Read64(0x28));
        nvme.Enable();
        // Around the ring twice: phase, head and slot.
        for (int i = 0; i < 35; i++) { nvme.Admin($"get queues {i}", 0x0A, d10: 7); }
        nvme.Write32(0x14, nvme.Read32(0x14) | (1 << 14));
        DeviceSide.Wait(() => (nvme.Read32(0x1C) & 0xC) == 8);
        side.Log("CSTS shut down", nvme.Read32(0x1C));
        nvme.Disable();
        side.Log("CSTS disabled again", nvme.Read32(0x1C));
        nvme.Write32(0x14, 0);
        nvme.Enable(0x0046_0001);
        nvme.Disable();
        nvme.Write32(0x14, 0);
        foreach (uint bad in (uint[])[0x0046_0781, 0x0046_3801])
        {
            nvme.Enable(bad);
            side.Log("CC while bad", nvme.Read32(0x14));
            nvme.Disable();
            side.Log($"CSTS after bad CC {bad:x}", nvme.Read32(0x1C));
            nvme.Write32(0x14, 0);
        }
        nvme.Enable();
        nvme.Admin("alive", 0x0A, d10: 7);
    }, KnownDifference.Control);

    // What a driver acts upon; not names, power, temperatures, nor what one of them has and the other has not.
    private static readonly (string Name, int Offset, int Length)[] ControllerFields =
    [
        ("VID", 0, 2), ("SSVID", 2, 2), ("SN", 4, 20), ("RAB", 72, 1), ("IEEE", 73, 3), ("CMIC", 76, 1),
        ("MDTS", 77, 1), ("CNTLID", 78, 2), ("VER", 80, 4), ("RTD3R", 84, 8), ("CNTRLTYPE", 111, 1), ("ACL", 258, 1),
        ("AERL", 259, 1), ("FRMW", 260, 1), ("ELPE", 262, 1), ("NPSS", 263, 1), ("AVSCC", 264, 2),
        ("WCTEMP", 266, 4), ("SQES", 512, 1), ("CQES", 513, 1), ("MAXCMD", 514, 2),
        ("FUSES", 522, 2), ("FNA", 524, 1), ("VWC", 525, 1), ("AWUN", 526, 4),
        ("NWPC", 531, 1), ("ACWU", 532, 2), ("PSD0", 2048, 12), ("OACS", 256, 2), ("LPA", 261, 1), ("NN", 516, 4),
        ("ONCS", 520, 2), ("SGLS", 536, 4),
    ];

    private static readonly (string Name, int Offset, int Length)[] NamespaceFields =
    [
        ("NSZE", 0, 8), ("NCAP", 8, 8), ("NUSE", 16, 8), ("NSFEAT", 24, 1), ("NLBAF", 25, 1), ("FLBAS", 26, 1),
        ("MC", 27, 1), ("DPC", 28, 1), ("DPS", 29, 1), ("NMIC", 30, 1), ("RESCAP", 31, 1), ("DLFEAT", 33, 1),
        ("NSATTR", 99, 1), ("LBAF0", 128, 4), ("NAWUN", 34, 8),
    ];

    // Seen failing: namespace 1 listed as coming after itself.
    [Fact]
    public void NvmeIdentifiesItselfAlike() => DeviceSide.Compare(static side =>
    {
        NvmeClient nvme = new(side);
        nvme.Enable();
        const ulong Page = NvmeClient.Data;
        nvme.Admin("identify controller", 0x06, prp1: Page, d10: 1);
        LogFields(side, ControllerFields);
        nvme.Admin("identify namespace", 0x06, ns: 1, prp1: Page);
        LogFields(side, NamespaceFields);
        nvme.Admin("identify namespace list", 0x06, prp1: Page, d10: 2);
        side.Log("list", side.Memory(Page, 4096));
        nvme.Admin("identify namespace list after 1", 0x06, ns: 1, prp1: Page, d10: 2);
        side.Log("list", side.Memory(Page, 4096));
        nvme.Admin("identify namespace list after the last", 0x06, ns: 0xFFFF_FFFE, prp1: Page, d10: 2);
        nvme.Admin("identify namespace 0", 0x06, ns: 0, prp1: Page);
        nvme.Admin("identify namespace 2", 0x06, ns: 2, prp1: Page);
        side.Log("inactive namespace", side.Memory(Page, 4096));
        nvme.Admin("identify namespace far", 0x06, ns: 0x1000, prp1: Page);
        nvme.Admin("identify all namespaces", 0x06, ns: 0xFFFF_FFFF, prp1: Page);
        nvme.Admin("descriptors of 2", 0x06, ns: 2, prp1: Page, d10: 3);
        nvme.Admin("identify nothing", 0x06, prp1: Page, d10: 0x99);
        // Across two pages, then with a bad second page.
        nvme.Admin("split", 0x06, prp1: Page + 0xF00, prp2: Page + 0x3000, d10: 1);
        side.Log("split, first", side.Memory(Page + 0xF00, 4));
        side.Log("split, SQES", side.Memory(Page + 0x3000 + 512 - 0x100, 2));
        nvme.Admin("split, bad", 0x06, prp1: Page + 0xF00, prp2: Page + 0x3004, d10: 1);
        nvme.Admin("PRP1 at a byte", 0x06, prp1: Page + 1, prp2: Page + 0x3000, d10: 1);
    }, KnownDifference.Identity);

    private static void LogFields(DeviceSide side, (string Name, int Offset, int Length)[] fields)
    {
        byte[] page = side.Memory(NvmeClient.Data, 4096);
        foreach ((string name, int offset, int length) in fields) { side.Log(name, page.AsSpan(offset, length)); }
    }

    // Seen failing: "do not retry" for a completion queue still in use.
    [Fact]
    public void NvmeQueuesComeAndGoAlike() => DeviceSide.Compare(static side =>
    {
        NvmeClient nvme = new(side);
        nvme.Enable();
        const byte Csq = 0x01, Ccq = 0x05, Dsq = 0x00, Dcq = 0x04, Set = 0x09, Get = 0x0A;
        const uint Ring16 = 15u << 16;
        ulong sq = NvmeClient.SubmissionRing(2), cq = NvmeClient.CompletionRing(2);
        nvme.Admin("get queues", Get, d10: 7);
        nvme.Admin("get queues, default", Get, d10: 7 | (1 << 8));
        nvme.Admin("set queues 3", Set, d10: 7, d11: 0x0003_0003);
        nvme.Admin("set queues many", Set, d10: 7, d11: 0x0100_0100);
        nvme.Admin("set queues too many", Set, d10: 7, d11: 0xFFFF_FFFF);
        nvme.Admin("SQ of no CQ", Csq, prp1: sq, d10: 2 | Ring16, d11: 1 | (2 << 16));
        nvme.Admin("SQ of CQ 0", Csq, prp1: sq, d10: 2 | Ring16, d11: 1);
        nvme.Admin("SQ of CQ 999", Csq, prp1: sq, d10: 2 | Ring16, d11: 1 | (999 << 16));
        nvme.Admin("CQ 0", Ccq, prp1: cq, d10: 0 | Ring16, d11: 1);
        nvme.Admin("CQ 9", Ccq, prp1: cq, d10: 9 | Ring16, d11: 1);
        nvme.Admin("CQ 999", Ccq, prp1: cq, d10: 999 | Ring16, d11: 1);
        nvme.Admin("CQ of one", Ccq, prp1: cq, d10: 2, d11: 1);
        nvme.Admin("CQ too long", Ccq, prp1: cq, d10: 2 | (0x800u << 16), d11: 1);
        nvme.Admin("CQ longest number", Ccq, prp1: cq, d10: 2 | (0xFFFFu << 16), d11: 1);
        nvme.Admin("CQ in a page", Ccq, prp1: cq + 0x40, d10: 2 | Ring16, d11: 1);
        nvme.Admin("CQ in pieces", Ccq, prp1: cq, d10: 2 | Ring16, d11: 0);
        nvme.Admin("CQ at vector 9", Ccq, prp1: cq, d10: 2 | Ring16, d11: 3 | (9 << 16));
        nvme.Admin("CQ at vector FFFF", Ccq, prp1: cq, d10: 2 | Ring16, d11: 3u | (0xFFFFu << 16));
        nvme.CreatePair(2);
        nvme.Admin("CQ 2 again", Ccq, prp1: cq, d10: 2 | Ring16, d11: 1);
        nvme.Admin("SQ 2 again", Csq, prp1: sq, d10: 2 | Ring16, d11: 1 | (2 << 16));
        nvme.Admin("SQ 0", Csq, prp1: sq, d10: 0 | Ring16, d11: 1 | (2 << 16));
        nvme.Admin("SQ 9", Csq, prp1: sq, d10: 9 | Ring16, d11: 1 | (2 << 16));
        nvme.Admin("SQ of one", Csq, prp1: sq, d10: 3, d11: 1 | (2 << 16));
        nvme.Admin("SQ too long", Csq, prp1: sq, d10: 3 | (0x800u << 16), d11: 1 | (2 << 16));
        nvme.Admin("SQ in a page", Csq, prp1: sq + 0x40, d10: 3 | Ring16, d11: 1 | (2 << 16));
        nvme.Admin("SQ in pieces", Csq, prp1: sq, d10: 3 | Ring16, d11: 2 << 16);
        nvme.Submit(2, "flush on 2", 0, ns: 1);
        nvme.Admin("delete CQ in use", Dcq, d10: 2);
        nvme.Admin("delete SQ 0", Dsq, d10: 0);
        nvme.Admin("delete CQ 0", Dcq, d10: 0);
        nvme.Admin("delete SQ 5", Dsq, d10: 5);
        nvme.Admin("delete CQ 5", Dcq, d10: 5);
        nvme.Admin("delete SQ 999", Dsq, d10: 999);
        nvme.Admin("delete CQ 999", Dcq, d10: 999);
        nvme.Admin("delete SQ 2", Dsq, d10: 2);
        nvme.Admin("delete SQ 2 again", Dsq, d10: 2);
        nvme.Admin("delete CQ 2", Dcq, d10: 2);
        nvme.Admin("delete CQ 2 again", Dcq, d10: 2);
        nvme.CreatePair(2, 4);
        for (int i = 0; i < 9; i++) { nvme.Submit(2, $"flush {i}", 0, ns: 1); }
        nvme.Disable();
        nvme.Enable();
        nvme.CreatePair(2);
        nvme.Submit(2, "flush after reset", 0, ns: 1);
        Features(nvme);
    }, KnownDifference.Queues);

    private static void Features(NvmeClient nvme)
    {
        const byte Set = 0x09, Get = 0x0A;
        foreach (uint id in (uint[])[0, 1, 2, 3, 4, 5, 6, 8, 9, 0xA, 0xB, 0xC, 0x7F, 0xFF])
        {
            nvme.Admin($"get feature {id:x}", Get, ns: id == 5 ? 1u : 0, d10: id);
            nvme.Admin($"get default of feature {id:x}", Get, ns: id == 5 ? 1u : 0, d10: id | (1 << 8));
        }
        nvme.Admin("write cache off", Set, d10: 6, d11: 0);
        nvme.Admin("write cache is off", Get, d10: 6);
        nvme.Admin("write cache default", Get, d10: 6 | (1 << 8));
        nvme.Admin("write cache on", Set, d10: 6, d11: 1);
        nvme.Admin("threshold", Set, d10: 4, d11: 0x160);
        nvme.Admin("threshold is", Get, d10: 4);
        nvme.Admin("events", Set, d10: 0xB, d11: 0x1);
        nvme.Admin("events are", Get, d10: 0xB);
        nvme.Admin("set unknown", Set, d10: 0xFF);
        nvme.Admin("set unknown 7F", Set, d10: 0x7F);
        nvme.Admin("set and save", Set, d10: 6 | (1u << 31), d11: 1);
        nvme.Admin("vector 0", Get, d10: 9);
        nvme.Admin("vector 8", Get, d10: 9, d11: 8);
        nvme.Admin("vector 99", Get, d10: 9, d11: 99);
    }

    // Seen failing: ranges zeroed on hints that do not say "deallocate".
    [Fact]
    public void NvmeCommandsAnswerAlike() => DeviceSide.Compare(static side =>
    {
        NvmeClient nvme = new(side);
        nvme.Enable();
        nvme.CreatePair(1);
        Transfers(side, nvme);
        Refusals(side, nvme);
        Deallocation(side, nvme);
        foreach (byte opcode in (byte[])[0x03, 0x07, 0x0B, 0x7F, 0xC0, 0xFF])
        {
            nvme.Admin($"admin opcode {opcode:x}", opcode);
        }
        nvme.Admin("log of nothing", 0x02, prp1: NvmeClient.Data, d10: 0x55 | (1 << 16), ns: 0xFFFF_FFFF);
        nvme.Admin("abort of nothing", 0x08, d10: 1 | (0x4444u << 16));
        nvme.Admin("abort of no queue", 0x08, d10: 77 | (0x4444u << 16));
        nvme.Admin("scattered admin command", 0x06, prp1: NvmeClient.Data, d10: 1, flags: 0x4000);
        nvme.Admin("fused admin command", 0x06, prp1: NvmeClient.Data, d10: 1, flags: 0x0100);
    }, KnownDifference.Commands);

    private static void Transfers(DeviceSide side, NvmeClient nvme)
    {
        const ulong Data = NvmeClient.Data, List = Data + 0x8_0000;
        nvme.Blocks("read 1", 2, 5, 1, Data);
        side.Log("block 5", side.Memory(Data, 512));
        nvme.Blocks("read a page at a dword", 2, 8, 2, Data + 0xE04, Data + 0x2000);
        side.Log("first part", side.Memory(Data + 0xE04, 0x1FC));
        side.Log("second part", side.Memory(Data + 0x2000, 0x204));
        for (ulong i = 0; i < 40; i++) { side.Client.Write64(new(List + i * 8), Data + 0x1_0000 + (39 - i) * 0x1000); }
        nvme.Blocks("read by list", 2, 100, 256, Data + 0x4_0000, List);
        side.Log("by list", side.Memory(Data + 0x1_0000, 0x2_8000));
        nvme.Blocks("write by list", 1, 1000, 64, Data + 0x1_0800, List + 0x10);
        nvme.Blocks("read back", 2, 1000, 16, Data, Data + 0x1000);
        side.Log("back", side.Memory(Data, 0x2000));
        nvme.Blocks("last block", 2, 4095, 1, Data);
        nvme.Blocks("write zeroes", 8, 1001, 3, 0);
        nvme.Blocks("read zeroes", 2, 1000, 8, Data);
        side.Log("zeroes", side.Memory(Data, 0x1000));
        nvme.Blocks("compare", 5, 1000, 8, Data);
        side.Client.Write8(new(Data + 77), (byte)(side.Client.Read8(new(Data + 77)) ^ 1));
        nvme.Blocks("compare, differs", 5, 1000, 8, Data);
        nvme.Submit(1, "flush", 0, ns: 1);
        nvme.Submit(1, "flush all", 0, ns: 0xFFFF_FFFF);
        nvme.Put(1, 2, ns: 1, prp1: Data, d10: 1);
        nvme.Put(1, 0x7E, ns: 1);
        nvme.Put(1, 2, ns: 1, prp1: Data + 0x1000, d10: 2);
        nvme.Ring(1);
    }

    private static void Refusals(DeviceSide side, NvmeClient nvme)
    {
        const ulong Data = NvmeClient.Data, List = Data + 0x8_0000;
        // Three at once: in whatever order, so they are only counted.
        for (int i = 0; i < 3; i++) { nvme.Discard(1); }
        foreach (byte opcode in (byte[])[0x03, 0x06, 0x0A, 0x7F, 0x80, 0xFF])
        {
            nvme.Submit(1, string.Create(CultureInfo.InvariantCulture, $"opcode {opcode:x}"), opcode, ns: 1);
        }
        foreach (byte opcode in (byte[])[0, 1, 2, 5, 8, 9])
        {
            foreach (uint ns in (uint[])[0, 2, 0x1000, 0xFFFF_FFFF])
            {
                if (ns == 0xFFFF_FFFF && opcode == 0) { continue; }
                nvme.Submit(1, $"opcode {opcode:x} on namespace {ns:x}", opcode, ns: ns, prp1: Data);
            }
        }
        foreach (byte opcode in (byte[])[1, 2, 5, 8])
        {
            nvme.Blocks($"{opcode} past the end", opcode, 4095, 2, Data);
            nvme.Blocks($"{opcode} at the end", opcode, 4096, 1, Data);
            nvme.Blocks($"{opcode} far", opcode, ulong.MaxValue, 1, Data);
            nvme.Blocks($"{opcode} far, wrapping", opcode, ulong.MaxValue, 2, Data);
        }
        for (ulong i = 0; i < 4; i++) { side.Client.Write64(new(List + (0x100 + i) * 8), Data + 0x1004 + i * 0x1000); }
        foreach (byte opcode in (byte[])[1, 2, 5])
        {
            nvme.Blocks($"{opcode} too long", opcode, 0, 1025, Data, List);
            nvme.Blocks($"{opcode} PRP2 in a page", opcode, 0, 16, Data, Data + 0x1004);
            nvme.Blocks($"{opcode} list entry in a page", opcode, 0, 32, Data, List + 0x100 * 8);
            nvme.Blocks($"{opcode} scattered", opcode, 0, 1, Data, flags: 0x4000);
            nvme.Blocks($"{opcode} fused", opcode, 0, 1, Data, flags: 0x0100);
        }
        // Reads alone: they leave the disk as it is.
        nvme.Blocks("read to a byte", 2, 0, 1, Data + 1);
        nvme.Blocks("read by a list at a dword", 2, 0, 32, Data, List + 4);
        nvme.Blocks("read to nowhere", 2, 0, 1, 0x7000_0000);
        nvme.Blocks("write from nowhere", 1, 3000, 16, 0x7000_0000, 0x7000_1000);
        nvme.Blocks("still there", 2, 7, 1, Data);
        side.Log("block 7", side.Memory(Data, 512));
    }

    private static void Deallocation(DeviceSide side, NvmeClient nvme)
    {
        const ulong Data = NvmeClient.Data, Ranges = Data + 0x9_0000;
        Span<byte> ranges = stackalloc byte[48];
        ranges.Clear();
        (ulong First, uint Blocks)[] all = [(16, 16), (64, 8), (4095, 2)];
        for (int i = 0; i < all.Length; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(ranges[(i * 16 + 4)..], all[i].Blocks);
            BinaryPrimitives.WriteUInt64LittleEndian(ranges[(i * 16 + 8)..], all[i].First);
        }
        side.Client.WriteBlock(new(Ranges), ranges);
        nvme.Submit(1, "hints alone", 9, ns: 1, prp1: Ranges, d10: 1, d11: 3);
        nvme.Blocks("after hints", 2, 16, 8, Data);
        side.Log("kept", side.Memory(Data, 0x1000));
        nvme.Submit(1, "two ranges", 9, ns: 1, prp1: Ranges, d10: 1, d11: 4);
        nvme.Blocks("beside the first", 2, 12, 4, Data);
        side.Log("beside", side.Memory(Data, 0x800));
        nvme.Submit(1, "one past the end", 9, ns: 1, prp1: Ranges, d10: 2, d11: 4);
        nvme.Submit(1, "past the end, hint", 9, ns: 1, prp1: Ranges, d10: 2, d11: 0);
    }

    // Seen failing: another default of the temperature threshold.
    [Fact]
    public void NvmeKeepsFeaturesInItsOwnWay() => DeviceSide.Compare(static side =>
    {
        const byte Set = 0x09, Get = 0x0A, Event = 0x0C;
        NvmeClient nvme = new(side);
        nvme.Enable();
        nvme.Admin("threshold", Set, d10: 4, d11: 0x100);
        nvme.Admin("write cache off", Set, d10: 6);
        nvme.Put(0, Event);
        nvme.Ring(0);
        nvme.Admin("events on while hot", Set, d10: 0xB, d11: 2);
        nvme.Write32(0x1000 + 7 * 8, 1);
        nvme.Take(0, "first event");
        nvme.Disable();
        nvme.Enable();
        nvme.Admin("threshold after a reset", Get, d10: 4);
        nvme.Admin("write cache after a reset", Get, d10: 6);
        nvme.Admin("events after a reset", Get, d10: 0xB);
    }, KnownDifference.Features);

    // Seen failing: a value outside its ring reported as a doorbell of no queue.
    [Fact]
    public void NvmeReportsBadDoorbellsAlike() => DeviceSide.Compare(static side =>
    {
        NvmeClient nvme = new(side);
        nvme.Enable();
        nvme.CreatePair(1);
        const byte Event = 0x0C, Log = 0x02;
        (string What, uint Doorbell, uint Value)[] bad =
        [
            ("tail of no queue", 5 * 8, 1), ("head of no queue", 5 * 8 + 4, 1),
            ("tail outside its ring", 8, NvmeClient.Entries), ("head outside its ring", 12, NvmeClient.Entries),
            ("admin tail outside its ring", 0, 99), ("admin head outside its ring", 4, 99),
        ];
        foreach ((string what, uint doorbell, uint value) in bad)
        {
            nvme.Put(0, Event);
            nvme.Ring(0);
            nvme.Write32(0x1000 + doorbell, value);
            nvme.Take(0, what);
            // Until its log is read, an event of this kind does not come again.
            nvme.Admin("error log", Log, ns: 0xFFFF_FFFF, prp1: NvmeClient.Data, d10: 1 | (15 << 16));
        }
        for (int i = 0; i < 4; i++) { nvme.Put(0, Event); }
        nvme.Ring(0);
        nvme.Admin("a fifth request", Event);
        nvme.Submit(1, "still alive", 0, ns: 1);
    });
}
