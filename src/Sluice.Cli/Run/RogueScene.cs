using Sluice.Dma;

namespace Sluice.Cli.Run;

/// <summary>One misbehaviour, set up: where the device will strike, and which memory it must not touch.</summary>
internal sealed class RogueScene : IDisposable
{
    private const int PageLog2 = 12;
    private const uint PageBytes = 1 << PageLog2;

    /// <summary>So many bytes of evidence are shown.</summary>
    public const int ShownBytes = 16;
    private readonly Pc _pc;
    private readonly Action _cleanUp;
    private readonly PhysicalAddress _victim;
    private readonly byte[] _before = new byte[PageBytes];

    private RogueScene(Pc pc, LogicalAddress target, bool writes, PhysicalAddress victim, Action cleanUp, LogicalAddress? blame = null)
    {
        (_pc, Target, Writes, _victim, _cleanUp, Blame) = (pc, target, writes, victim, cleanUp, blame ?? target);
        pc.Machine.Memory.TryRead(victim, _before);
    }

    /// <summary>Where the device strikes.</summary>
    public LogicalAddress Target { get; }

    /// <summary>Whether it writes; else it reads.</summary>
    public bool Writes { get; }

    /// <summary>The page that a report about the strike names.</summary>
    public LogicalAddress Blame { get; }

    /// <summary>What is different in the memory that the strike is aimed at; null when nothing is.</summary>
    public RogueChange? Change()
    {
        byte[] now = new byte[PageBytes];
        _pc.Machine.Memory.TryRead(_victim, now);
        int first = now.AsSpan().CommonPrefixLength(_before);
        if (first == now.Length) { return null; }
        int last = now.Length - 1;
        while (now[last] == _before[last]) { last--; }
        int bytes = 0;
        for (int i = first; i <= last; i++) { bytes += now[i] == _before[i] ? 0 : 1; }
        int shown = Math.Min(last - first + 1, ShownBytes);
        return new(
            Hex(_victim + (uint)first), Hex(_victim + (uint)last), bytes,
            Convert.ToHexStringLower(_before, first, shown), Convert.ToHexStringLower(now, first, shown));
    }

    private static string Hex(PhysicalAddress address) => $"0x{address.Value:x}";

    /// <summary>
    /// Whether bytes that the device came away with are the victim's. A refused read leaves it none or all ones.
    /// </summary>
    public bool Holds(ReadOnlySpan<byte> loot) => _before.AsSpan().IndexOf(loot[..64]) >= 0;

    /// <summary>Sets up one case.</summary>
    public static RogueScene Set(Pc pc, RogueCase rogue) => rogue switch
    {
        RogueCase.UnmappedRead => Unmapped(pc, writes: false),
        RogueCase.UnmappedWrite => Unmapped(pc, writes: true),
        RogueCase.WriteToReadonly => Mapped(pc, DmaDirection.ToDevice, writes: true),
        RogueCase.ReadFromWriteonly => Mapped(pc, DmaDirection.FromDevice, writes: false),
        RogueCase.Overrun => Overrun(pc),
        RogueCase.Stale => Stale(pc),
        RogueCase.Kernel => new(pc, new(pc.Kernel.InterruptTable.Value), true, pc.Kernel.InterruptTable, static () => { }),
        RogueCase.OtherDevice => OtherDevice(pc),
        RogueCase.Physical => Physical(pc),
        _ => throw new ArgumentOutOfRangeException(nameof(rogue)),
    };

    // A pointer gone wild. Behind a unit it points where nothing was ever mapped; without one, wild pointers that find
    // no memory harm nobody, so this one finds some.
    private static RogueScene Unmapped(Pc pc, bool writes)
    {
        Mdl victim = Secret(pc, PageBytes);
        PhysicalAddress page = victim.Pages[0];
        LogicalAddress wild = !pc.HasUnit ? new(page.Value) : new(0x37_0001_2000);
        return new(pc, wild, writes, page, victim.Dispose);
    }

    private static RogueScene Mapped(Pc pc, DmaDirection direction, bool writes)
    {
        Mdl buffer = Secret(pc, PageBytes);
        ScatterGatherLease list = Get(pc.EduAdapter, buffer, direction);
        return new(pc, list[0].Address, writes, buffer.Pages[0], () =>
        {
            pc.EduAdapter.PutScatterGatherList(list);
            buffer.Dispose();
        });
    }

    // Two frames side by side, so that without a unit the overrun has something to hit; only the first is the buffer.
    private static RogueScene Overrun(Pc pc)
    {
        if (!pc.Machine.Frames.TryAllocate(FrameKind.Buffer, PageLog2 + 1, out PhysicalAddress frames))
        {
            throw new CommandException("no two adjacent frames are free; give the machine more --memory");
        }
        Mdl buffer = Mdl.Borrow(pc.Machine, [frames], PageBytes);
        ScatterGatherLease list = Get(pc.EduAdapter, buffer, DmaDirection.FromDevice);
        LogicalAddress end = list[0].Address + PageBytes;
        // Nothing refused is unread now, so no mapping that ended before can be what the device missed: the report need
        // not leave the cause open.
        pc.Dma.DrainFaults();
        return new(pc, end - 512, writes: true, frames + PageBytes, () =>
        {
            pc.EduAdapter.PutScatterGatherList(list);
            buffer.Dispose();
            pc.Machine.Frames.Free(frames, PageLog2 + 1);
        }, blame: end);
    }

    // The device is used properly first, so that the unit has the translation cached when the driver takes the buffer
    // back.
    private static RogueScene Stale(Pc pc)
    {
        Mdl buffer = Secret(pc, PageBytes);
        ScatterGatherLease list = Get(pc.EduAdapter, buffer, DmaDirection.FromDevice);
        LogicalAddress address = list[0].Address;
        pc.Edu.TransferRaw(address, 512, DmaDirection.FromDevice, bufferOffset: 2048);
        pc.EduAdapter.PutScatterGatherList(list);
        return new(pc, address, writes: true, buffer.Pages[0], buffer.Dispose);
    }

    // A longer buffer than edu's own, so that its last page has an address that edu never had.
    private static RogueScene OtherDevice(Pc pc)
    {
        const uint Pages = 32;
        Mdl buffer = Secret(pc, Pages * PageBytes);
        ScatterGatherLease list = Get(pc.NvmeAdapter, buffer, DmaDirection.FromDevice);
        ScatterGatherElement last = list[list.Count - 1];
        LogicalAddress target = last.Address + last.Length - PageBytes;
        return new(pc, target, writes: true, buffer.Pages[(int)Pages - 1], () =>
        {
            pc.NvmeAdapter.PutScatterGatherList(list);
            buffer.Dispose();
        });
    }

    // The driver did map its buffer, and then gave the device the wrong one of its two addresses.
    private static RogueScene Physical(Pc pc)
    {
        Mdl buffer = Secret(pc, PageBytes);
        ScatterGatherLease list = Get(pc.EduAdapter, buffer, DmaDirection.FromDevice);
        return new(pc, new(buffer.Pages[0].Value), writes: true, buffer.Pages[0], () =>
        {
            pc.EduAdapter.PutScatterGatherList(list);
            buffer.Dispose();
        });
    }

    private static Mdl Secret(Pc pc, uint bytes)
    {
        Mdl buffer = Mdl.Allocate(pc.Machine, bytes);
        byte[] content = new byte[bytes];
        new Random(7).NextBytes(content);
        buffer.CopyFrom(0, content);
        return buffer;
    }

    private static ScatterGatherLease Get(DmaAdapter adapter, Mdl buffer, DmaDirection direction) =>
        adapter.TryGetScatterGatherList(buffer, 0, buffer.ByteCount, direction, out ScatterGatherLease list, tag: 17)
            ? list
            : throw new CommandException("the machine ran out of logical addresses");

    /// <summary>Gives back what the scene took.</summary>
    public void Dispose() => _cleanUp();
}
