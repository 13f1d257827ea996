using Sluice.Formats.Vtd;
using Sluice.Iommu.Vtd;

namespace Sluice.Iommu.Tests;

/// <summary>
/// One unit, its memory, and a few hands to build tables and issue DMA: tables are written as raw words.
/// </summary>
internal sealed class Rig : IInterruptSink, IDisposable
{
    public const ulong Root = 0x1000;
    public const ulong Queue = 0x4000;
    public const ulong Status = 0x3000;
    public const ulong FirstFree = 0x20000;
    private readonly MemoryBanks _banks;
    private ulong _free = FirstFree;
    private uint _waitData;

    public Rig(VtdOptions? options = null, ulong bytes = 1 << 24, IPhysicalMemory? memory = null)
    {
        _banks = new(new MemoryBank(new(0), NativeBlock.Allocate(bytes), 0, bytes));
        Memory = memory ?? _banks.Memory;
        Unit = new(options ?? new(), Memory, this);
        Port = Unit.Connect("test");
    }

    public IPhysicalMemory Memory { get; }

    /// <summary>As a struct, where the rig was not given memory of another kind.</summary>
    public PhysicalMemory Native => _banks.Memory;

    public VtdUnit Unit { get; }

    public TranslationPort Port { get; }

    public RegisterWindow Registers => Unit.Registers;

    public List<MsiMessage> Delivered { get; } = [];

    public void Deliver(MsiMessage message) { lock (Delivered) { Delivered.Add(message); } }

    public void Dispose() => _banks.Dispose();

    public void Poke(ulong address, ulong value) => Assert.True(Memory.TryWrite64(new(address), value));

    public ulong Peek(ulong address)
    {
        Assert.True(Memory.TryRead64(new(address), out ulong value));
        return value;
    }

    /// <summary>A zeroed, aligned table.</summary>
    public ulong Table(ulong bytes = 0x1000)
    {
        ulong at = (_free + bytes - 1) & ~(bytes - 1);
        _free = at + bytes;
        return at;
    }

    /// <summary>Root entry, context table and context entry of a function; gives the top page table.</summary>
    public ulong Attach(ushort requester, ushort domain, int topLevel = 3, ulong lowBits = 0, ulong table = 0)
    {
        if (table == 0) { table = Table(); }
        ulong rootEntry = Root + (ulong)(requester >> 8) * 16;
        if ((Peek(rootEntry) & 1) == 0) { Poke(rootEntry, Table() | 1); }
        ulong context = ContextAt(requester);
        Poke(context + 8, ((ulong)domain << 8) | (uint)(topLevel - 1));
        Poke(context, table | lowBits | 1);
        return table;
    }

    public ulong ContextAt(ushort requester) =>
        (Peek(Root + (ulong)(requester >> 8) * 16) & ~0xFFFUL) + (ulong)(requester & 0xFF) * 16;

    /// <summary>Maps one leaf at <paramref name="level"/> and gives the address of its entry.</summary>
    public ulong Map(ulong table, int topLevel, ulong logical, ulong physical, ulong rights = 3, int level = 0)
    {
        for (int at = topLevel; at > level; at--)
        {
            ulong slot = table + (logical >> (12 + 9 * at) & 0x1FF) * 8;
            if (Peek(slot) == 0) { Poke(slot, Table() | 3); }
            table = Peek(slot) & 0x000F_FFFF_FFFF_F000;
        }
        ulong leaf = table + (logical >> (12 + 9 * level) & 0x1FF) * 8;
        Poke(leaf, physical | rights | (level > 0 ? 0x80UL : 0));
        return leaf;
    }

    /// <summary>Root table set, queue on, translation on.</summary>
    public void Enable(bool queue = true)
    {
        Registers.Write64(0x20, Root);
        Registers.Write32(0x18, 1u << 30);
        Assert.Equal(1u << 30, Registers.Read32(0x1C) & (1u << 30));
        if (queue)
        {
            Registers.Write64(0x90, Queue);
            Registers.Write32(0x18, 1u << 26);
        }
        Registers.Write32(0x18, (Registers.Read32(0x1C) & 0x9680_0000) | (1u << 31));
        Assert.NotEqual(0u, Registers.Read32(0x1C) & (1u << 31));
    }

    public static SourceId Source(ushort requester) => new(new PciAddress(0, new(requester)));

    public bool Translate(ushort requester, ulong address, DmaAccess access, out PhysicalRun run) =>
        Translate(Port, requester, address, access, out run);

    public bool Translate(TranslationPort port, ushort requester, ulong address, DmaAccess access, out PhysicalRun run)
    {
        port.Enter();
        bool passed = Unit.TryTranslate(port, new(Source(requester), new(address), access), out run);
        port.Exit();
        return passed;
    }

    /// <summary>The physical address, or null when refused.</summary>
    public ulong? Physical(ushort requester, ulong address, DmaAccess access = DmaAccess.Read) =>
        Translate(requester, address, access, out PhysicalRun run) ? run.First.Value : null;

    /// <summary>Puts descriptors into the queue at the tail and runs them.</summary>
    public void Submit(params ReadOnlySpan<(ulong Low, ulong High)> descriptors)
    {
        ulong tail = Registers.Read64(0x88);
        ulong size = 0x1000UL << (int)(Registers.Read64(0x90) & 7);
        foreach ((ulong low, ulong high) in descriptors)
        {
            Poke(Queue + tail, low);
            Poke(Queue + tail + 8, high);
            tail = (tail + 16) & (size - 1);
        }
        Registers.Write64(0x88, tail);
    }

    /// <summary>As <see cref="Submit"/>, with a wait after it that must complete.</summary>
    public void SubmitAndWait(params ReadOnlySpan<(ulong Low, ulong High)> descriptors)
    {
        Submit([.. descriptors, (0x25 | ((ulong)++_waitData << 32), Status)]);
        Assert.True(Memory.TryRead32(new(Status), out uint status));
        Assert.Equal(_waitData, status);
    }

    public uint FaultStatus => Registers.Read32(0x34);

    public (ulong Low, ulong High) Record(int index)
    {
        uint at = Unit.Options.FaultRecordOffset + (uint)index * 16;
        return (Registers.Read64(at), Registers.Read64(at + 8));
    }

    public void FreeRecord(int index) =>
        Registers.Write32(Unit.Options.FaultRecordOffset + (uint)index * 16 + 12, 1u << 31);

    public void FreeAllRecords()
    {
        for (int i = 0; i < Unit.Options.FaultRecords; i++) { FreeRecord(i); }
        Registers.Write32(0x34, 1);
    }

    /// <summary>The reason of the one refusal that <paramref name="dma"/> must be, or zero when it passed.</summary>
    public byte ReasonOf(ushort requester, ulong address, DmaAccess access)
    {
        FreeAllRecords();
        if (Translate(requester, address, access, out _)) { return 0; }
        int first = (int)(FaultStatus >> 8) & 0xFF;
        return (byte)(Record(first).High >> 32);
    }
}
