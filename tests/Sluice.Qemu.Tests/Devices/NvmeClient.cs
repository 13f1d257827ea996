using System.Buffers.Binary;
using System.Globalization;

namespace Sluice.Qemu.Tests.Devices;

/// <summary>Drives an NVMe controller by raw register and memory writes, and writes down every completion.</summary>
internal sealed class NvmeClient(DeviceSide side)
{
    public const ulong Data = 0x40_0000;
    public const uint Entries = 16;
    private const ulong Bar = DeviceSide.Nvme;
    private const ulong Rings = 0x20_0000;
    private readonly Queue[] _queues = new Queue[DeviceSide.QueuePairs + 1];
    private ushort _nextCommand = 0x100;
    private bool _isSilent;

    private struct Queue
    {
        public uint Tail;
        public uint Head;
        public uint Size;
        public bool Phase;
        public uint Held;
        public uint Told;
    }

    /// <summary>The rings are a page each: no queue here is longer than 64.</summary>
    public static ulong SubmissionRing(int queue) => Rings + (ulong)queue * 0x2000;

    public static ulong CompletionRing(int queue) => SubmissionRing(queue) + 0x1000;

    public uint Read32(uint register) => side.Client.Read32(new(Bar + register));

    public ulong Read64(uint register) => side.Client.Read64(new(Bar + register));

    public void Write32(uint register, uint value) => side.Client.Write32(new(Bar + register), value);

    public void Write64(uint register, ulong value) => side.Client.Write64(new(Bar + register), value);

    /// <summary>Starts the controller with admin queues of <see cref="Entries"/>; logs CSTS.</summary>
    public void Enable(uint configuration = 0x0046_0001)
    {
        Begin(0, Entries);
        Write32(0x24, (Entries - 1) << 16 | (Entries - 1));
        Write64(0x28, SubmissionRing(0));
        Write64(0x30, CompletionRing(0));
        Write32(0x14, configuration);
        DeviceSide.Wait(() => (Read32(0x1C) & 3) != 0);
        side.Log($"CSTS after enable with CC {configuration:x}", Read32(0x1C));
    }

    public void Disable()
    {
        Write32(0x14, Read32(0x14) & ~1u);
        DeviceSide.Wait(() => (Read32(0x1C) & 1) == 0);
    }

    /// <summary>Our side of a queue pair: rings zeroed, indices at their start.</summary>
    public void Begin(int queue, uint size)
    {
        side.Client.Fill(new(SubmissionRing(queue)), 0x2000, 0);
        _queues[queue] = new() { Size = size, Phase = true };
    }

    /// <summary>Creates a pair of queues with the rings of that number, and logs both completions.</summary>
    public void CreatePair(int queue, uint size = Entries, bool interrupts = false)
    {
        Begin(queue, size);
        uint id = (uint)queue | ((size - 1) << 16);
        Admin($"create CQ {queue}", 0x05, prp1: CompletionRing(queue), d10: id, d11: interrupts ? 3u : 1);
        Admin($"create SQ {queue}", 0x01, prp1: SubmissionRing(queue), d10: id, d11: 1 | ((uint)queue << 16));
    }

    public uint Admin(
        string what, byte opcode, uint ns = 0, ulong prp1 = 0, ulong prp2 = 0, uint d10 = 0, uint d11 = 0, uint d12 = 0,
        uint flags = 0) =>
        Submit(0, what, opcode, ns, prp1, prp2, d10, d11, d12, flags);

    /// <summary>A command of <paramref name="blocks"/> blocks on queue 1.</summary>
    public uint Blocks(
        string what, byte opcode, ulong first, uint blocks, ulong prp1, ulong prp2 = 0, uint ns = 1, uint flags = 0) =>
        Submit(1, what, opcode, ns, prp1, prp2, (uint)first, (uint)(first >> 32), blocks - 1, flags);

    /// <summary>Rings one command in, waits for its completion and logs it; dword 0.</summary>
    public uint Submit(
        int queue, string what, byte opcode, uint ns = 0, ulong prp1 = 0, ulong prp2 = 0, uint d10 = 0, uint d11 = 0,
        uint d12 = 0, uint flags = 0)
    {
        Put(queue, opcode, ns, prp1, prp2, d10, d11, d12, flags);
        Ring(queue);
        return Take(queue, what);
    }

    /// <summary>Writes a command into the ring without telling the controller.</summary>
    public void Put(
        int queue, byte opcode, uint ns = 0, ulong prp1 = 0, ulong prp2 = 0, uint d10 = 0, uint d11 = 0, uint d12 = 0,
        uint flags = 0)
    {
        Span<byte> entry = stackalloc byte[64];
        entry.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(entry, opcode | flags | ((uint)_nextCommand++ << 16));
        BinaryPrimitives.WriteUInt32LittleEndian(entry[4..], ns);
        BinaryPrimitives.WriteUInt64LittleEndian(entry[24..], prp1);
        BinaryPrimitives.WriteUInt64LittleEndian(entry[32..], prp2);
        BinaryPrimitives.WriteUInt32LittleEndian(entry[40..], d10);
        BinaryPrimitives.WriteUInt32LittleEndian(entry[44..], d11);
        BinaryPrimitives.WriteUInt32LittleEndian(entry[48..], d12);
        ref Queue q = ref _queues[queue];
        side.Client.WriteBlock(new(SubmissionRing(queue) + q.Tail * 64), entry);
        q.Tail = (q.Tail + 1) % q.Size;
    }

    public void Ring(int queue) => Write32(0x1000 + (uint)queue * 8, _queues[queue].Tail);

    /// <summary>Takes the next completion: phase, status, head, ids and result are logged.</summary>
    public uint Take(int queue, string what)
    {
        ref Queue q = ref _queues[queue];
        ulong slot = CompletionRing(queue) + q.Head * 16;
        ulong last = 0;
        bool phase = q.Phase;
        // Whoever did not answer once is not waited for again.
        _isSilent = _isSilent
            || !DeviceSide.Wait(() => (((last = side.Client.Read64(new(slot + 8))) >> 48) & 1) == (phase ? 1u : 0));
        if (_isSilent)
        {
            side.Log(what, "no answer");
            return 0;
        }
        uint result = side.Client.Read32(new(slot));
        uint status = (uint)(last >> 49);
        string wires = side.TakeWires();
        string where = string.Create(CultureInfo.InvariantCulture, $"slot {q.Head} phase {q.Phase}");
        if (++q.Head == q.Size) { (q.Head, q.Phase) = (0, !q.Phase); }
        // A ring that is full of what was not taken would stop the controller.
        if (!Holds || ++q.Held >= q.Size / 2) { Acknowledge(queue); }
        side.Log(what, string.Create(CultureInfo.InvariantCulture,
            $"type {(status >> 8) & 7} code {status & 0xFF:x2} retry {1 - (status >> 14)} head {(ushort)last}"
            + $" queue {(ushort)(last >> 16)} command {(ushort)(last >> 32):x} {where}"
            + $" result {result:x} wires{wires},{side.TakeWires()}"));
        return result;
    }

    /// <summary>Leaves completions in their ring: the controller is not told that they were taken.</summary>
    public bool Holds { get; set; }

    /// <summary>Tells the controller how far the driver has come in a completion ring.</summary>
    public void Acknowledge(int queue)
    {
        ref Queue q = ref _queues[queue];
        q.Held = 0;
        // (R) A doorbell that says nothing new miscounts in QEMU.
        if (q.Told == q.Head) { return; }
        q.Told = q.Head;
        Write32(0x1004 + (uint)queue * 8, q.Head);
    }

    /// <summary>Takes several completions that may come in any order: logged by command, without their slots.</summary>
    public void TakeAll(int queue, string what, int count)
    {
        List<string> seen = [];
        ref Queue q = ref _queues[queue];
        for (int i = 0; i < count; i++)
        {
            ulong slot = CompletionRing(queue) + q.Head * 16;
            ulong last = 0;
            uint phase = q.Phase ? 1u : 0;
            _isSilent = _isSilent
                || !DeviceSide.Wait(() => (((last = side.Client.Read64(new(slot + 8))) >> 48) & 1) == phase);
            seen.Add(string.Create(CultureInfo.InvariantCulture, $"{(ushort)(last >> 32):x} status {last >> 49:x}"));
            if (++q.Head == q.Size) { (q.Head, q.Phase) = (0, !q.Phase); }
        }
        seen.Sort(StringComparer.Ordinal);
        string wires = side.TakeWires();
        Acknowledge(queue);
        side.Log(what, $"{string.Join(", ", seen)} wires{wires},{side.TakeWires()}");
    }

    /// <summary>Takes the next completion unseen.</summary>
    public void Discard(int queue)
    {
        ref Queue q = ref _queues[queue];
        ulong last = CompletionRing(queue) + q.Head * 16 + 8;
        uint phase = q.Phase ? 1u : 0;
        DeviceSide.Wait(() => ((side.Client.Read64(new(last)) >> 48) & 1) == phase);
        if (++q.Head == q.Size) { (q.Head, q.Phase) = (0, !q.Phase); }
        Acknowledge(queue);
    }
}
