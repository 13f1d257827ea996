using Sluice.Formats.Vtd;

namespace Sluice.Qemu.Tests.Differential;

/// <summary>
/// One program for every bit of every structure that the unit reads from memory: a good one with just that bit
/// flipped.
/// </summary>
internal static class SingleBitPrograms
{
    private const int Device = 0;
    private const int Base = 0;

    public static IEnumerable<(string Name, IReadOnlyList<Step> Program)> All()
    {
        (string Name, ulong Address, ulong Good)[] words =
        [
            ("root low", Layout.RootTable, RootEntry.For(new(Layout.ContextTable)).Low),
            ("root high", Layout.RootTable + 8, 0),
            ("context low", Layout.ContextEntryAt(Layout.ContextTable, Device), Layout.Context(Device).Low),
            ("context high", Layout.ContextEntryAt(Layout.ContextTable, Device) + 8, Layout.Context(Device).High),
            ("link, level 3", Entry(3), Layout.Link(Device, 3, Base)),
            ("link, level 2", Entry(2), Layout.Link(Device, 2, Base)),
            ("link, level 1", Entry(1), Layout.Link(Device, 1, Base)),
            ("leaf, level 2", Entry(2), Layout.Leaf(0, DmaAccess.ReadWrite, 2)),
            ("leaf, level 1", Entry(1), Layout.Leaf(Layout.OtherData, DmaAccess.ReadWrite, 1)),
            ("leaf, level 0", Entry(0), Layout.Leaf(Layout.OtherData + 0x1000, DmaAccess.ReadWrite, 0)),
        ];
        foreach ((string name, ulong address, ulong good) in words)
        {
            for (int bit = 0; bit < 64; bit++)
            {
                yield return ($"{name}, bit {bit}", TryOut(address, good ^ (1UL << bit)));
            }
        }
        (string Name, InvalidationDescriptor Good)[] descriptors =
        [
            ("context descriptor", InvalidationDescriptor.ForContextCache(InvalidationGranularity.Domain, 1)),
            ("page descriptor", InvalidationDescriptor.ForIotlb(InvalidationGranularity.Selective, 1,
                new(Layout.FirstData), 1)),
            ("domain descriptor", InvalidationDescriptor.ForIotlb(InvalidationGranularity.Domain, 1)),
            ("interrupt descriptor", new((ulong)InvalidationType.InterruptEntryCache, 0)),
            ("wait descriptor", InvalidationDescriptor.ForWait(new(Layout.Status), 0x1234)),
        ];
        foreach ((string name, InvalidationDescriptor good) in descriptors)
        {
            for (int bit = 0; bit < 128; bit++)
            {
                InvalidationDescriptor flipped = bit < 64 ? new(good.Low ^ (1UL << bit), good.High)
                    : new(good.Low, good.High ^ (1UL << (bit - 64)));
                // (c) A wait that neither stores nor interrupts.
                bool isFence = flipped is { Type: InvalidationType.Wait, WritesStatus: false, RaisesInterrupt: false };
                if (isFence) { continue; }
                yield return ($"{name}, bit {bit}", Enqueue(flipped));
            }
        }
    }

    private static ulong Entry(int level) => Layout.Entry(Device, level, Base, 0);

    private static Step[] TryOut(ulong address, ulong word) =>
    [
        new Step.Store(address, word, "one bit flipped"),
        new Step.Register(VtdRegister.GlobalCommand, VtdGlobal.TranslationEnable, false, "translation on"),
        new Step.Dma(Device, true, Layout.FirstData + 8, 0x100, 16),
        new Step.Register(0x228, FaultRecord.ValidBit, true, "clear the fault record"),
        new Step.Register(0xF8, VtdIotlbCommand.For(InvalidationGranularity.Global).Word, true, "drop all pages"),
        new Step.Dma(Device, false, Layout.FirstData + 16, 0x200, 16),
        new Step.Register(VtdRegister.GlobalCommand, 0, false, "all off"),
        new Step.Dma(Device, true, Layout.Dump, 0, 4096),
    ];

    // Both end with a wait, so that the next program can turn the queue off.
    private static Step[] Enqueue(InvalidationDescriptor descriptor)
    {
        var wait = InvalidationDescriptor.ForWait(new(Layout.Status + 0x40), 1);
        return
        [
            new Step.Register(VtdRegister.GlobalCommand, VtdGlobal.QueuedInvalidationEnable, false, "queue on"),
            new Step.Queue(0, [descriptor, wait]),
            new Step.Group("mend the queue",
            [
                new Step.Store(Layout.Queue, wait.Low, "a wait instead"),
                new Step.Store(Layout.Queue + 8, wait.High, "a wait instead"),
                new Step.Register(VtdRegister.FaultStatus, VtdFaultStatus.WriteOneToClear, false,
                    "clear the queue error"),
                new Step.Register(VtdRegister.InvalidationQueueTail, 32, true, "tail again"),
            ]),
        ];
    }
}
