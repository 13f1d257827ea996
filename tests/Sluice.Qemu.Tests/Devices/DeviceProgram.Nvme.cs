using System.Buffers.Binary;
using System.Security.Cryptography;

namespace Sluice.Qemu.Tests.Devices;

// Commands, queues, features, masks and resets of the NVMe controller.
internal sealed partial class DeviceProgram
{
    private const ulong Data = NvmeClient.Data;
    private const int DataPages = 64;
    private const ulong List = Data + 0x8_0000;

    /// <summary>Blocks that programs read and write; they begin with the same bytes in every program.</summary>
    private const int Blocks = 128;
    private const ulong AllBlocks = 4096;
    private bool _isHot;

    private static void PrepareNvme(DeviceRig rig)
    {
        (DeviceSide side, NvmeClient nvme) = rig;
        side.SetConfig32(6, 0x04, 6);
        nvme.Disable();
        nvme.Write32(0x14, 0);
        nvme.Write32(0x10, uint.MaxValue);
        Start(nvme);
        byte[] pattern = new byte[DataPages * 4096];
        new Random(6).NextBytes(pattern);
        side.Client.WriteBlock(new(Data), pattern);
        WriteList(side, List, [.. Enumerable.Range(1, 15).Select(static page => Data + (ulong)page * 4096)]);
        nvme.Blocks("blocks as at first", 1, 0, Blocks, Data, List);
    }

    private static void Start(NvmeClient nvme)
    {
        nvme.Enable();
        nvme.CreatePair(1, interrupts: true);
        nvme.CreatePair(2, size: 5);
        // (T) QEMU keeps these over a reset.
        uint threshold = nvme.Admin("default threshold", 0x0A, d10: 4 | (1 << 8));
        nvme.Admin("default threshold", 0x09, d10: 4, d11: threshold);
        nvme.Admin("no events", 0x09, d10: 0xB);
        nvme.Admin("write cache", 0x09, d10: 6, d11: 1);
    }

    private static void FinishNvme(DeviceRig rig)
    {
        (DeviceSide side, NvmeClient nvme) = rig;
        Release(nvme);
        side.Log("data", SHA256.HashData(side.Memory(Data, DataPages * 4096)));
        WriteList(side, List, [.. Enumerable.Range(1, 15).Select(static page => Data + (ulong)page * 4096)]);
        nvme.Blocks("all blocks", 2, 0, Blocks, Data, List);
        side.Log("blocks", SHA256.HashData(side.Memory(Data, Blocks * 512)));
        side.Log("CSTS", nvme.Read32(0x1C));
        side.Log("INTMS", nvme.Read32(0x0C));
    }

    private static void Release(NvmeClient nvme)
    {
        nvme.Holds = false;
        for (int queue = 0; queue < 3; queue++) { nvme.Acknowledge(queue); }
    }

    private static void WriteList(DeviceSide side, ulong address, ReadOnlySpan<ulong> entries)
    {
        byte[] bytes = new byte[entries.Length * 8];
        for (int i = 0; i < entries.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(i * 8), entries[i]);
        }
        side.Client.WriteBlock(new(address), bytes);
    }

    private void Transfer()
    {
        byte opcode = Pick<byte>(1, 1, 2, 2, 2, 5, 8, 0);
        int first = _random.Next(Blocks);
        int blocks = Math.Min(Pick(1, 2, 7, 8, 9, 16, 17, 40, 64), Blocks - first);
        int queue = Pick(1, 1, 2);
        int offset = Once(3) ? _random.Next(1024) * 4 : 0;
        int pages = (offset + blocks * 512 + 4095) / 4096;
        ulong[] chosen = [.. Enumerable.Range(0, DataPages).Select(static page => Data + (ulong)page * 4096)];
        _random.Shuffle(chosen);
        // The list begins anywhere in its page: near the end it goes on in the next one.
        ulong list = List + (ulong)(Once(3) ? 512 - _random.Next(1, 6) : _random.Next(490)) * 8;
        bool again = opcode == 2 && Once(3);
        string what = Text($"{blocks} blocks from {first}, offset {offset:x}, list {list:x}");
        Add(Text($"command {opcode} on queue {queue}: {what}"), rig =>
        {
            ulong prp2 = pages == 2 ? chosen[1] : pages > 2 ? list : 0;
            if (pages > 2) { WriteChained(rig.Side, list, chosen.AsSpan(1, pages - 1)); }
            uint d10 = opcode == 0 ? 0 : (uint)first, d12 = opcode == 0 ? 0 : (uint)blocks - 1;
            rig.Nvme.Submit(queue, $"command {opcode}", opcode, 1, chosen[0] + (ulong)offset, prp2, d10, 0, d12);
            if (again) { rig.Nvme.Submit(queue, "compare", 5, 1, chosen[0] + (ulong)offset, prp2, d10, 0, d12); }
        });
    }

    /// <summary>The last slot of a page points to the next page of the list when entries are left for it.</summary>
    private static void WriteChained(DeviceSide side, ulong list, ReadOnlySpan<ulong> entries)
    {
        int slots = (int)(4096 - (list & 4095)) / 8;
        if (entries.Length <= slots)
        {
            WriteList(side, list, entries);
            return;
        }
        const ulong Next = List + 0x1000;
        WriteList(side, list, [.. entries[..(slots - 1)], Next]);
        WriteList(side, Next, entries[(slots - 1)..]);
    }

    private void Refusal()
    {
        byte opcode = Pick<byte>(1, 2, 5, 8);
        int queue = Pick(1, 2);
        switch (_random.Next(6))
        {
            case 0:
                byte unknown = Pick<byte>(0x03, 0x06, 0x0A, 0x0B, 0x7F, 0x80, 0xFF);
                Add(Text($"opcode {unknown:x}"), rig => rig.Nvme.Submit(queue, "unknown opcode", unknown, 1, Data));
                break;
            case 1:
                uint ns = Pick<uint>(0, 2u, 200u, 0x1000u, 0xFFFF_FFFFu);
                Add(Text($"command {opcode} on namespace {ns:x}"), rig =>
                    rig.Nvme.Submit(queue, "namespace", opcode, ns, Data));
                break;
            case 2:
                ulong first = Pick(AllBlocks - 1, AllBlocks, AllBlocks + 1, ulong.MaxValue, 1UL << 32, 1UL << 63);
                uint blocks = Pick<uint>(2, 3u, 100u);
                Add(Text($"command {opcode} at block {first:x}, {blocks}"), rig => rig.Nvme.Submit(
                    queue, "past the end", opcode, 1, Data, List, (uint)first, (uint)(first >> 32), blocks - 1));
                break;
            case 3 when opcode != 8:
                Add(Text($"command {opcode} too long"), rig => rig.Nvme.Submit(
                    queue, "too long", opcode, 1, Data, List, 0, 0, 1024));
                break;
            case 4 when opcode != 8:
                ulong second = Data + 0x1000 + (ulong)_random.Next(1, 1024) * 4;
                Add(Text($"command {opcode} with PRP2 {second:x}"), rig => rig.Nvme.Submit(
                    queue, "PRP2 in a page", opcode, 1, Data, second, 0, 0, 15));
                break;
            default:
                uint flags = Pick(0x0100u, 0x0200u, 0x4000u, 0x8000u);
                byte moves = Pick<byte>(1, 2, 5);
                Add(Text($"command {moves} with flags {flags:x}"), rig => rig.Nvme.Submit(
                    queue, "form", moves, 1, Data, flags: flags));
                break;
        }
    }

    private void Feature()
    {
        const byte Set = 0x09, Get = 0x0A, Identify = 0x06, Abort = 0x08;
        // 1, 9 and the default of 6 differ (L, M, N); 5 belongs to a namespace.
        uint id = Pick<uint>(0, 2, 3, 4, 4, 5, 6, 7, 8, 0xA, 0xB, 0xB, 0xC, 0x7F, 0xFF);
        uint ns = id == 5 ? 1u : 0;
        uint value = Pick<uint>(0, 1, 3, 0x140, 0x160, 0x0003_0003, 0x001F);
        string name = id == 4 && value >> 16 != 0 ? "threshold of no sensor" : "set feature";
        switch (_random.Next(6))
        {
            case 0 or 1:
                uint selection = id == 6 ? 0 : Pick<uint>(0, 0, 1);
                Add(Text($"get feature {id:x}, selection {selection}"), rig =>
                    rig.Nvme.Admin("get feature", Get, ns, d10: id | (selection << 8)));
                break;
            case 2 or 3 when id is not (2 or 5 or 8 or 0xA):
                // (U) Events switched on when it is too hot already: QEMU does not tell.
                const uint TemperatureEvent = 2;
                _isHot |= id == 4;
                if (id == 0xB && _isHot) { value &= ~TemperatureEvent; }
                Add(Text($"set feature {id:x} to {value:x}"), rig =>
                    rig.Nvme.Admin(name, Set, ns, d10: id, d11: value));
                break;
            case 4:
                uint what = Pick<uint>(0, 1, 2, 3, 0x99);
                uint about = Pick<uint>(0, 1, 1, 2, 0x1000, 0xFFFF_FFFF);
                ulong page = Data + (ulong)_random.Next(DataPages) * 4096;
                Add(Text($"identify {what:x} of {about:x}"), rig =>
                {
                    rig.Nvme.Admin(Text($"identify {what:x}"), Identify, about, page, d10: what);
                    // What it says of itself is compared elsewhere, field by field (C, P).
                    rig.Side.Client.Fill(new(page), 4096, 0);
                });
                break;
            default:
                uint queue = Pick<uint>(0, 1, 2, 7, 77);
                Add(Text($"abort on queue {queue}"), rig =>
                    rig.Nvme.Admin("abort", Abort, d10: queue | (0x4444u << 16)));
                break;
        }
    }

    private void QueueManagement()
    {
        uint id = Pick<uint>(0, 4, 5, 9, 999);
        uint size = Pick<uint>(0, 1, 15, 63, 0x7FF, 0x800, 0xFFFF) << 16;
        uint flags = Pick<uint>(0, 1, 1, 1, 3);
        switch (_random.Next(6))
        {
            case 0:
                uint vector = Pick<uint>(0, 0, 0, 1, 8, 9, 0xFFFF) << 16;
                ulong ring = NvmeClient.CompletionRing(6) + (Once(5) ? 0x40u : 0);
                Add(Text($"create CQ {id}, {size:x}, {flags}, {vector:x}, {ring:x}"), rig =>
                    rig.Nvme.Admin("create CQ", 0x05, prp1: ring, d10: id | size, d11: flags | vector));
                break;
            case 1:
                uint completions = Pick<uint>(0, 1, 1, 2, 4, 5, 7, 999) << 16;
                ulong commands = NvmeClient.SubmissionRing(6) + (Once(5) ? 0x40u : 0);
                Add(Text($"create SQ {id}, {size:x}, {flags}, {completions:x}, {commands:x}"), rig =>
                    rig.Nvme.Admin("create SQ", 0x01, prp1: commands, d10: id | size, d11: flags | completions));
                break;
            case 2:
                Add(Text($"delete SQ {id}"), rig => rig.Nvme.Admin("delete SQ", 0x00, d10: id));
                break;
            case 3:
                Add(Text($"delete CQ {id}"), rig => rig.Nvme.Admin("delete CQ", 0x04, d10: id));
                break;
            default:
                uint entries = Pick<uint>(2, 3, 16);
                bool interrupts = Once(2);
                int flushes = _random.Next(4);
                Add(Text($"pair 3 of {entries}, interrupts: {interrupts}, {flushes} flushes"), rig =>
                {
                    rig.Nvme.CreatePair(3, entries, interrupts);
                    bool holds = rig.Nvme.Holds;
                    rig.Nvme.Holds = false;
                    for (int i = 0; i < flushes; i++) { rig.Nvme.Submit(3, "flush", 0, 1); }
                    rig.Nvme.Holds = holds;
                    rig.Nvme.Admin("delete SQ", 0x00, d10: 3);
                    rig.Nvme.Admin("delete CQ", 0x04, d10: 3);
                });
                break;
        }
    }

    private void InterruptMask()
    {
        if (Once(3))
        {
            bool holds = Once(2);
            Add(holds ? "completions stay" : "completions are taken", rig =>
            {
                if (holds) { rig.Nvme.Holds = true; } else { Release(rig.Nvme); }
                rig.Side.Log("taken", rig.Side.TakeWires());
            });
            return;
        }
        uint register = Pick(0x0Cu, 0x10u, 0x10u);
        uint value = Pick<uint>(1, 1, 2, 0xFFu, uint.MaxValue, 0);
        uint command = Pick(0x006u, 0x406u);
        bool pci = Once(4);
        Add(pci ? Text($"NVMe command register {command:x}") : Text($"NVMe register {register:x}, {value:x}"), rig =>
        {
            if (pci) { rig.Side.SetConfig32(6, 4, command); } else { rig.Nvme.Write32(register, value); }
            rig.Side.Log("mask", rig.Nvme.Read32(register));
            rig.Side.Log("status", (rig.Side.Config32(6, 4) >> 19) & 1);
            rig.Side.Log("wires of a mask", rig.Side.TakeWires());
        });
    }

    private void Burst()
    {
        int queue = Pick(0, 1);
        int count = _random.Next(2, 6);
        int first = _random.Next(Blocks);
        Add(Text($"{count} commands at once on queue {queue}, from block {first}"), rig =>
        {
            Release(rig.Nvme);
            rig.Side.TakeWires();
            for (int i = 0; i < count; i++)
            {
                byte readOrFlush = (byte)((i & 1) == 0 ? 2 : 0);
                if (queue == 0) { rig.Nvme.Put(0, 0x0A, d10: 7); }
                else { rig.Nvme.Put(1, readOrFlush, 1, Data + (ulong)i * 4096, d10: (uint)((first + i) % Blocks)); }
            }
            rig.Nvme.Ring(queue);
            rig.Nvme.TakeAll(queue, "burst", count);
        });
    }

    private void BadDoorbell()
    {
        (uint doorbell, uint value) = Pick(
            (56u, 1u), (60u, 1u), (8u, 16u), (12u, 16u), (16u, 5u), (20u, 99u), (0u, 99u), (4u, 99u), (12u, 0xFFFFu));
        Add(Text($"doorbell {doorbell:x}, {value}"), rig =>
        {
            NvmeClient nvme = rig.Nvme;
            nvme.Put(0, 0x0C);
            nvme.Ring(0);
            nvme.Write32(0x1000 + doorbell, value);
            nvme.Take(0, "event");
            nvme.Admin("error log", 0x02, 0xFFFF_FFFF, Data, d10: 1 | (15 << 16));
            rig.Side.Client.Fill(new(Data), 4096, 0);
        });
    }

    private void Reset()
    {
        bool shutdown = Once(2);
        _isHot = false;
        Add(shutdown ? "shutdown and reset" : "reset", rig =>
        {
            NvmeClient nvme = rig.Nvme;
            // (R) QEMU's pin would stay up for ever.
            Release(nvme);
            if (shutdown)
            {
                nvme.Write32(0x14, nvme.Read32(0x14) | (1 << 14));
                DeviceSide.Wait(() => (nvme.Read32(0x1C) & 0xC) == 8);
            }
            rig.Side.Log("CSTS before", nvme.Read32(0x1C));
            nvme.Disable();
            rig.Side.Log("CSTS after", nvme.Read32(0x1C));
            rig.Side.Log("CC after", nvme.Read32(0x14));
            rig.Side.Log("INTMS after", nvme.Read32(0x0C));
            nvme.Write32(0x14, 0);
            rig.Side.Log("wires of a reset", rig.Side.TakeWires());
            Start(nvme);
        });
    }
}
