using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Sluice.Iommu.Tests;

/// <summary>A unit over memory that is its host's: bytes of its own kind, or native memory that it lends.</summary>
public sealed class HostMemoryTests
{
    private const ushort Disk = 0x0020;
    private const int Bytes = 1 << 20;

    // The whole road over each kind of memory: tables read, a queue run, its status word written, a DMA moved, a fault.
    // Seen failing: a memory without TryRead128 taken for one without memory.
    [Theory]
    [InlineData("bytes")]
    [InlineData("borrowed")]
    [InlineData("own")]
    public void AUnit_OverMemoryOfItsHost_TranslatesInvalidatesAndRecords(string kind)
    {
        byte[] host = GC.AllocateArray<byte>(Bytes + 0x1000, pinned: true);
        nint start = (Marshal.UnsafeAddrOfPinnedArrayElement(host, 0) + 0xFFF) & ~0xFFF;
        using MemoryBanks banks = new(new MemoryBank(new(0), NativeBlock.Borrow(start, Bytes, host), 0, Bytes));
        IPhysicalMemory? memory = kind switch
        {
            "bytes" => new ByteMemory(host),
            "borrowed" => banks.Memory,
            _ => null,
        };
        using Rig rig = new(memory: memory);
        ulong table = rig.Attach(Disk, 1);
        ulong leaf = rig.Map(table, 3, 0x1000, 0x8_0000);
        rig.Map(table, 3, 0x2000, 0x9_0000, rights: 1);
        rig.Enable();
        MemoryPort<IPhysicalMemory> port = new(rig.Unit, rig.Memory, "disk");
        DmaRequest request = new(Rig.Source(Disk), new(0x1FF8), DmaAccess.None);
        byte[] data = new byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(data, 0x1122334455667788);
        Assert.Equal(new(8, DmaEnd.Refused), port.Write(request, data));
        Assert.Equal(0x1122334455667788UL, rig.Peek(0x8_0FF8));
        Assert.Equal(5UL, rig.Record(0).High >> 32 & 0xFF);
        Assert.Equal(new(16, DmaEnd.Completed), port.Read(request, data));

        // Unmapped but still cached; then dropped by a descriptor, with the status word in the same memory.
        rig.Poke(leaf, 0);
        Assert.Equal(0x8_0000UL, rig.Physical(Disk, 0x1000));
        rig.SubmitAndWait((0x32 | 1UL << 16, 0x1000UL));
        rig.FreeAllRecords();
        Assert.Null(rig.Physical(Disk, 0x1000));
        Assert.Equal(0x9_0000UL, rig.Physical(Disk, 0x2000));
        if (kind == "borrowed")
        {
            int offset = (int)(start - Marshal.UnsafeAddrOfPinnedArrayElement(host, 0));
            Assert.Equal(0x1122334455667788UL, BinaryPrimitives.ReadUInt64LittleEndian(host.AsSpan(offset + 0x8_0FF8)));
        }
    }

    // A hit asks memory nothing. Seen failing: pages never kept.
    [Fact]
    public void AHit_OverMemoryOfItsHost_AsksItNothing()
    {
        ByteMemory memory = new(new byte[Bytes]);
        using Rig rig = new(memory: memory);
        rig.Map(rig.Attach(Disk, 1), 3, 0x1000, 0x8_0000);
        rig.Enable();
        Assert.NotNull(rig.Physical(Disk, 0x1000));
        long asked = memory.Accesses;
        for (int i = 0; i < 10; i++) { Assert.NotNull(rig.Physical(Disk, 0x1000)); }
        Assert.Equal((asked, 10L), (memory.Accesses, rig.Port.Hits));
    }
}
