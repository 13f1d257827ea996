using Sluice.Formats.Vtd;

namespace Sluice.Qemu.Tests.Differential;

/// <summary>A machine that programs run on: three edu devices behind a VT-d unit.</summary>
internal abstract class Target : IDisposable
{
    protected const ulong UnitBase = 0xFED9_0000;
    protected const ulong FirstBar = 0xC000_0000;
    protected const ulong BarStride = 0x10_0000;
    protected const ulong EduBuffer = 0x4_0000;

    /// <summary>The registers compared after every step.</summary>
    public static readonly (uint Offset, int Bytes, string Name)[] Registers =
    [
        (VtdRegister.GlobalStatus, 4, "GSTS"), (VtdRegister.RootTableAddress, 8, "RTADDR"),
        (VtdRegister.ContextCommand, 8, "CCMD"),
        (VtdRegister.FaultStatus, 4, "FSTS"), (VtdRegister.FaultEventControl, 4, "FECTL"),
        (VtdRegister.FaultEventData, 4, "FEDATA"),
        (VtdRegister.FaultEventAddress, 4, "FEADDR"), (VtdRegister.FaultEventUpperAddress, 4, "FEUADDR"),
        (VtdRegister.InvalidationQueueHead, 8, "IQH"), (VtdRegister.InvalidationQueueTail, 8, "IQT"),
        (VtdRegister.InvalidationQueueAddress, 8, "IQA"), (VtdRegister.InvalidationCompletionStatus, 4, "ICS"),
        (VtdRegister.InvalidationEventControl, 4, "IECTL"), (VtdRegister.InvalidationEventData, 4, "IEDATA"),
        (VtdRegister.InvalidationEventAddress, 4, "IEADDR"), (VtdRegister.InvalidationEventUpperAddress, 4, "IEUADDR"),
        (VtdRegister.InterruptRemappingTable, 8, "IRTA"),
        (VtdRegister.ProtectedMemoryEnable, 4, "PMEN"), (0xF0, 8, "IVA"), (0xF8, 8, "IOTLB"),
        (0x220, 8, "FRCD.low"), (0x228, 8, "FRCD.high"),
    ];

    public abstract PhysicalMemory Memory { get; }

    public abstract void Write32(uint offset, uint value);

    public abstract void Write64(uint offset, ulong value);

    public abstract void Dma(Step.Dma dma);

    /// <summary>One register, at once.</summary>
    public abstract ulong Read64(uint offset);

    /// <summary>Waits until all has happened.</summary>
    public abstract void Settle();

    /// <summary>Waits until all has happened, and reads <see cref="Registers"/>.</summary>
    public abstract void Read(Span<ulong> values);

    public abstract void Dispose();

    public void Do(Step step)
    {
        switch (step)
        {
            case Step.Store store:
                Memory.TryWrite64(new(store.Address), store.Value);
                break;
            case Step.Register { IsWide: true } register:
                Write64(register.Offset, register.Value);
                break;
            case Step.Register register:
                Write32(register.Offset, (uint)register.Value);
                break;
            case Step.Queue queue:
                ulong at = queue.Tail;
                foreach (InvalidationDescriptor descriptor in queue.Descriptors)
                {
                    Memory.TryWrite64(new(Layout.Queue + at), descriptor.Low);
                    Memory.TryWrite64(new(Layout.Queue + at + 8), descriptor.High);
                    at = (at + InvalidationDescriptor.Size) % Layout.QueueBytes;
                }
                Write64(VtdRegister.InvalidationQueueTail, at);
                break;
            case Step.Dma dma:
                Dma(dma);
                break;
            case Step.Group group:
                foreach (Step part in group.Steps)
                {
                    Settle();
                    Do(part);
                }
                break;
        }
    }

    /// <summary>
    /// Finds nothing, assumes everything: both machines have them where the layout says. Sets BAR 0, allows mastering.
    /// </summary>
    protected static void Configure(IPortIo ports)
    {
        for (int device = 0; device < Layout.Devices; device++)
        {
            uint function = 0x8000_0000 | ((uint)Layout.Requester(device).Value << 8);
            ports.Out32(0xCF8, function);
            if (ports.In32(0xCFC) != 0x11E8_1234)
            {
                throw new InvalidOperationException($"no edu at {Layout.Requester(device)}");
            }
            ports.Out32(0xCF8, function | 0x10);
            ports.Out32(0xCFC, (uint)(FirstBar + (ulong)device * BarStride));
            ports.Out32(0xCF8, function | 4);
            ports.Out32(0xCFC, 6);
        }
    }
}
