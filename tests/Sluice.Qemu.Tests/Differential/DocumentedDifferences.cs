using Sluice.Formats.Vtd;

namespace Sluice.Qemu.Tests.Differential;

/// <summary>
/// A program for every line of the first table of docs/differences.md that shows it, and what shows: left ours, right
/// QEMU's. All other differences are forgiven.
/// </summary>
internal static class DocumentedDifferences
{
    private const ulong First = Layout.FirstData;
    private const ulong Mapped = First, Absent = First + 0x1000;
    private static readonly InvalidationDescriptor Fence = new((ulong)InvalidationType.Wait, 0);
    private static readonly InvalidationDescriptor Bad = new(0xF, 0);
    private static readonly InvalidationDescriptor Good = InvalidationDescriptor.ForWait(new(Layout.Status), 1);
    private static readonly Step On = Narrow(VtdRegister.GlobalCommand, VtdGlobal.TranslationEnable, "translation on");
    private static readonly Step Off = Narrow(VtdRegister.GlobalCommand, 0, "all off");
    private static readonly Step QueueOn =
        Narrow(VtdRegister.GlobalCommand, VtdGlobal.QueuedInvalidationEnable, "queue on");

    private static readonly Step DropContexts = Wide(
        VtdRegister.ContextCommand, VtdContextCommand.For(InvalidationGranularity.Global).Word, "drop all contexts");

    private static readonly Step DropPages =
        Wide(0xF8, VtdIotlbCommand.For(InvalidationGranularity.Global).Word, "drop all pages");

    public static readonly (char Letter, Step[] Program, string Shows)[] All =
    [
        ('a', [Wide(VtdRegister.InvalidationQueueAddress, 0x16_1000, "queue address")],
            "0: IQA 0x161000 | 0x0; "),
        ('b', [On, Write(0, Absent), Wide(0x228, FaultRecord.ValidBit, "clear the record")],
            "2: FECTL 0x80000000 | 0xC0000000; "),
        ('c', [QueueOn, new Step.Queue(0, [Fence])],
            "1: FSTS 0x0 | 0x10; FECTL 0x80000000 | 0xC0000000; IQH 0x10 | 0x0; "),
        ('e',
        [
            QueueOn, new Step.Queue(0, [Bad]), new Step.Store(Layout.Queue, Good.Low, "a wait instead"),
            new Step.Store(Layout.Queue + 8, Good.High, "a wait instead"),
            Narrow(VtdRegister.FaultStatus, VtdFaultStatus.WriteOneToClear, "clear the queue error"),
        ],
            "4: IQH 0x10 | 0x0; memory from 0x170000 to 0x170000: 0x01… | 0x00…; "),
        ('f', [Wide(VtdRegister.ContextCommand,
            VtdContextCommand.For(InvalidationGranularity.Domain, 1).Word, "contexts of a domain")],
            "0: CCMD 0x5000000000000001 | 0x4800000000000001; "),
        ('g',
        [
            On, Context(0, Layout.Context(0).Low & 0xFFF | Layout.Nowhere, Layout.Context(0).High), DropContexts,
            DropPages, Write(0, Mapped),
        ],
            "4: FRCD.high 0x8000000700000028 | 0x8000000300000028; "),
        ('h', [Context(0, PassThrough.Low, PassThrough.High), DropContexts, DropPages, On, Write(0, 1UL << 48)],
            "4: FSTS 0x2 | 0x0; FECTL 0xC0000000 | 0x80000000; FRCD.low 0x1000000000000 | 0x0; "
            + "FRCD.high 0x8000000400000028 | 0x0; "),
        ('i', [Page(0, 0, First, DmaAccess.Read), On, Read(0, Mapped), Write(0, Mapped)],
            "3: FSTS 0x2 | 0x0; FECTL 0xC0000000 | 0x80000000; FRCD.low 0x800000 | 0x0; "
            + "FRCD.high 0x8000000500000028 | 0x0; "),
        ('j',
        [
            new Step.Store(
                Layout.Entry(0, 0, 0, 0), Layout.Leaf(First, DmaAccess.Read, 0) | (1UL << 62), "reserved bit"),
            On, Write(0, Mapped),
        ],
            "2: FRCD.high 0x8000000C00000028 | 0x8000000500000028; "),
        ('k', [On, Read(0, Mapped), Page(0, 0, First + 0x2000, DmaAccess.ReadWrite), Off, On, Write(0, Mapped), Off],
            "5: memory from 0x802000 to 0x80200F: 0x3E… | 0x00…; "),
        ('l',
        [
            Context(0, PassThrough.Low, PassThrough.High), DropContexts, DropPages, On,
            Context(0, Layout.Context(0).Low, Layout.Context(0).High), Write(0, Absent),
        ],
            "5: FSTS 0x2 | 0x0; FECTL 0xC0000000 | 0x80000000; FRCD.low 0x801000 | 0x0; "
            + "FRCD.high 0x8000000500000028 | 0x0; memory from 0x801000 to 0x80100F: 0x1F… | 0x00…; "),
        ('m', [On, Read(0, Mapped), Context(0, 0, 0), DropContexts, Write(0, Mapped)],
            "4: FSTS 0x2 | 0x0; FECTL 0xC0000000 | 0x80000000; FRCD.low 0x800000 | 0x0; "
            + "FRCD.high 0x8000000200000028 | 0x0; "),
        ('o', [On, Context(0, Layout.Context(0).Low | 2, 1UL << 63), DropContexts, DropPages, Write(0, Mapped)],
            "4: FSTS 0x0 | 0x2; FECTL 0x80000000 | 0xC0000000; FRCD.low 0x0 | 0x800000; "
            + "FRCD.high 0x0 | 0x8000000B00000028; "),
        ('p', [QueueOn, new Step.Queue(0,
            [InvalidationDescriptor.ForContextCache(InvalidationGranularity.Global, 0)]), Off],
            "2: GSTS 0x40000000 | 0x44000000; IQH 0x0 | 0x10; "),
        ('q', [QueueOn, Wide(0xF8, VtdIotlbCommand.For(InvalidationGranularity.Global).Word, "drop all pages")],
            "1: IOTLB 0x1203000000000000 | 0x9203000000000000; "),
        ('r', [On, Read(0, 0xFEE0_0000)],
            "1: FSTS 0x2 | 0x0; FECTL 0xC0000000 | 0x80000000; FRCD.low 0xFEE00000 | 0x0; "
            + "FRCD.high 0xC000000E00000028 | 0x0; "),
        ('s',
        [
            Context(1, Layout.Context(0).Low, Layout.Context(0).High), DropContexts, On, Read(0, Mapped),
            Page(0, 0, First + 0x2000, DmaAccess.ReadWrite), Write(1, Mapped),
        ],
            "5: memory from 0x800000 to 0x80200F: 0x80… | 0x00…; "),
        ('u', [QueueOn, new Step.Queue(0, [new(0x28_0001_0019, 0)])],
            "1: FSTS 0x10 | 0x0; FECTL 0xC0000000 | 0x80000000; IQH 0x0 | 0x10; "),
    ];

    private static ContextEntry PassThrough => ContextEntry.For(TranslationType.PassThrough, default, 3, 1);

    private static Step.Dma Read(int device, ulong address) => new(device, false, address, 0, 16);

    private static Step.Dma Write(int device, ulong address) => new(device, true, address, 0x100, 16);

    private static Step.Store Page(int device, int page, ulong target, DmaAccess access) =>
        new(Layout.Entry(device, 0, 0, page), Layout.Leaf(target, access, 0), $"leaf of device {device}");

    private static Step.Group Context(int device, ulong low, ulong high) => new($"context entry of device {device}",
    [
        new Step.Store(Layout.ContextEntryAt(Layout.ContextTable, device) + 8, high, "high"),
        new Step.Store(Layout.ContextEntryAt(Layout.ContextTable, device), low, "low"),
    ]);

    private static Step.Register Wide(uint offset, ulong value, string what) => new(offset, value, true, what);

    private static Step.Register Narrow(uint offset, ulong value, string what) => new(offset, value, false, what);
}
