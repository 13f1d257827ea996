using Sluice.Formats.PageTables;
using Sluice.Formats.Vtd;

namespace Sluice.Qemu.Tests.Differential;

/// <summary>
/// Where everything lies that the programs play with, the same on both machines: two root tables, two context tables,
/// one set of page tables per device, a queue, status words, data pages.
/// </summary>
/// <remarks>
/// Data pages lie at the same place in two 2 MiB regions, and logical addresses have the same low bits: whatever size
/// of page maps them, an access ends on a data page and is looked at.
/// </remarks>
internal static class Layout
{
    public const ulong MemoryBytes = 32 << 20;
    public const int Devices = 3;
    public const int DataPages = 8;

    public const ulong RootTable = 0x10_0000;
    public const ulong OtherRootTable = 0x10_1000;
    public const ulong ContextTable = 0x10_2000;
    public const ulong OtherContextTable = 0x10_3000;
    public const ulong Tables = 0x11_0000;
    public const ulong TablesEnd = 0x14_0000;
    public const ulong Queue = 0x16_0000;
    public const ulong QueueBytes = 0x1000;
    public const ulong Status = 0x17_0000;
    public const ulong Dump = 0x18_0000;
    public const ulong ControlEnd = 0x18_3000;
    public const ulong FirstData = 0x80_0000;
    public const ulong OtherData = 0xA0_0000;

    /// <summary>Memory ends below: a pointer here leads nowhere, on both machines.</summary>
    public const ulong Nowhere = 0x1000_0000;

    /// <summary>
    /// Each begins 2 MiB that the tables cover. The low 30 bits of each are those of a region of data pages.
    /// </summary>
    public static readonly ulong[] Bases = [FirstData, OtherData, 0x4080_0000, 0x80_0080_0000, 0xFFFF_C0A0_0000];

    /// <summary>00:05.0, .4 and .6: function masks tell them apart, or do not.</summary>
    public static RequesterId Requester(int device) => RequesterId.From(0, 5, device switch { 0 => 0, 1 => 4, _ => 6 });

    /// <summary>
    /// The table of <paramref name="device"/> that an entry for <paramref name="baseIndex"/> lies in at
    /// <paramref name="level"/>.
    /// </summary>
    public static ulong Table(int device, int level, int baseIndex)
    {
        // One top table, a table per distinct path below it: the first two bases share all but the last level.
        int slot = (level, baseIndex) switch
        {
            (3, _) => 0,
            (2, 0 or 1 or 2) => 1,
            (2, 3) => 2,
            (2, _) => 3,
            (1, 0 or 1) => 4,
            (1, _) => 3 + baseIndex,
            _ => 8 + baseIndex,
        };
        return Tables + (ulong)(device * 16 + slot) * 0x1000;
    }

    /// <summary>Where the entry lies that serves a page (0 to 7) of a base at a level.</summary>
    public static ulong Entry(int device, int level, int baseIndex, int page) =>
        Table(device, level, baseIndex) + (((Bases[baseIndex] + (ulong)page * 0x1000) >> (12 + 9 * level)) & 511) * 8;

    public static ulong RootEntryAt(ulong table) => table;

    public static ulong ContextEntryAt(ulong table, int device) =>
        ContextEntry.AddressOf(new(table), Requester(device)).Value;

    public static ContextEntry Context(int device, int topLevel = 3) => ContextEntry.For(
        TranslationType.Translated, new(Table(device, topLevel, 0)), topLevel, (ushort)(1 + 8 * device));

    /// <summary>
    /// A memory as every program finds it: all tables linked, half of the pages mapped, data recognisable.
    /// </summary>
    public static void Initialise(PhysicalMemory memory, int topLevel = 3)
    {
        Bytes(memory, RootTable, ControlEnd - RootTable).Clear();
        var idle = InvalidationDescriptor.ForWait(new(Status + 0x800), 0);
        for (ulong at = 0; at < QueueBytes; at += InvalidationDescriptor.Size)
        {
            Put(memory, Queue + at, idle.Low);
            Put(memory, Queue + at + 8, idle.High);
        }
        foreach (ulong region in (ulong[])[FirstData, OtherData])
        {
            Span<byte> bytes = Bytes(memory, region, DataPages * 0x1000);
            int shift = region == OtherData ? 128 : 0;
            for (int i = 0; i < bytes.Length; i++) { bytes[i] = (byte)(i * 7 + (i >> 12) * 31 + shift); }
        }
        foreach ((ulong root, ulong contexts) in (ReadOnlySpan<(ulong, ulong)>)
            [(RootTable, ContextTable), (OtherRootTable, OtherContextTable)])
        {
            Put(memory, RootEntryAt(root), RootEntry.For(new(contexts)).Low);
            for (int device = 0; device < Devices; device++)
            {
                ContextEntry entry = Context(device, topLevel);
                Put(memory, ContextEntryAt(contexts, device), entry.Low);
                Put(memory, ContextEntryAt(contexts, device) + 8, entry.High);
            }
        }
        for (int device = 0; device < Devices; device++)
        {
            for (int b = 0; b < Bases.Length; b++)
            {
                for (int level = 3; level > 0; level--)
                {
                    Put(memory, Entry(device, level, b, 0), Link(device, level, b));
                }
                for (int page = (b + device) % 2; page < DataPages; page += 2)
                {
                    ulong leaf = Leaf(DataPage(b + page, page), DmaAccess.ReadWrite, 0);
                    Put(memory, Entry(device, 0, b, page), leaf);
                }
            }
        }
    }

    public static ulong Link(int device, int level, int baseIndex) =>
        VtdSecondStageEntry.Table(new(Table(device, level - 1, baseIndex))).Word;

    public static ulong Leaf(ulong page, DmaAccess access, int level) =>
        VtdSecondStageEntry.Leaf(new(page), access, level).Word;

    public static ulong DataPage(int region, int page) =>
        ((region & 1) == 0 ? FirstData : OtherData) + (ulong)page * 0x1000;

    private static void Put(PhysicalMemory memory, ulong address, ulong value)
    {
        if (!memory.TryWrite64(new(address), value)) { throw new InvalidOperationException("no memory"); }
    }

    private static Span<byte> Bytes(PhysicalMemory memory, ulong address, ulong length) =>
        memory.TryGetSpan(new(address), (int)length, out Span<byte> bytes)
            ? bytes
            : throw new InvalidOperationException("no memory");
}
