using System.Buffers.Binary;
using Sluice.Machines.Nvme;

namespace Sluice.Machines.Tests.Nvme;

/// <summary>What a completion entry says, decoded here and not by the model.</summary>
internal readonly record struct Answer(uint Result, uint Dword2, uint Dword3)
{
    public ushort CommandId => (ushort)Dword3;

    public ushort Head => (ushort)Dword2;

    public ushort Queue => (ushort)(Dword2 >> 16);

    public bool Phase => (Dword3 & 0x1_0000) != 0;

    /// <summary>Type and code: 0x281 is type 2, code 0x81.</summary>
    public int Status => (int)(Dword3 >> 17) & 0x7FF;

    public bool DoNotRetry => (Dword3 & 0x8000_0000) != 0;
}

/// <summary>A pair of rings that the test drives by hand.</summary>
internal sealed class Ring(int id, ulong submissions, ulong completions, uint submissionSize, uint completionSize)
{
    public int Id => id;

    public ulong Submissions => submissions;

    public ulong Completions => completions;

    public uint SubmissionSize => submissionSize;

    public uint CompletionSize => completionSize;

    public uint Tail { get; set; }

    public uint Head { get; set; }

    public bool Phase { get; set; } = true;

    public ushort LastId { get; set; }
}

/// <summary>A stepped machine without a remapping unit, an NVMe controller in it, and raw access to both.</summary>
internal sealed class NvmeRig : IDisposable
{
    public const ulong NoMemory = 0x40_0000_0000; // 256 GiB: where no RAM is, a DMA is refused
    private const uint AdminEntries = 16;

    public NvmeRig(INvmeMedium medium, NvmeModelOptions? options = null, int seed = 1, ulong memory = 64 << 20)
    {
        Machine = Machine.Create(new() { MemoryBytes = memory, Deterministic = true, Seed = seed });
        Device = Machine.Plug(new NvmeModel(medium, options));
        Function = PciBus.Enumerate(Machine).Single(f => f.ClassCode == 0x010802);
        Registers = Function.MapBar(0);
        Function.EnableBusMaster();
        Admin = new(0, Page(), Page(), AdminEntries, AdminEntries);
        Data = Page(20);
        Lists = Page(14);
    }

    public Machine Machine { get; }

    public NvmeModel Device { get; }

    public PciFunction Function { get; }

    public RegisterWindow Registers { get; }

    public Ring Admin { get; private set; }

    /// <summary>1 MiB for data, physically contiguous.</summary>
    public ulong Data { get; }

    /// <summary>16 KiB for PRP lists.</summary>
    public ulong Lists { get; }

    public uint Status => Registers.Read32(0x1C);

    public ulong Page(int sizeLog2 = 12)
    {
        Assert.True(Machine.Frames.TryAllocate(FrameKind.Buffer, sizeLog2, out PhysicalAddress first));
        return first.Value;
    }

    /// <summary>Enables the controller: AQA, ASQ, ACQ, CC with the given memory page size.</summary>
    public NvmeRig Enable(uint pageSizeField = 0)
    {
        Machine.Memory.TryWrite(new(Admin.Completions), new byte[4096]);
        Admin = new(0, Admin.Submissions, Admin.Completions, AdminEntries, AdminEntries);
        Registers.Write32(0x24, 0x000F_000F);
        Registers.Write64(0x28, Admin.Submissions);
        Registers.Write64(0x30, Admin.Completions);
        Registers.Write32(0x14, 0x0046_0001 | (pageSizeField << 7));
        Assert.True(Run(() => (Status & 1) != 0), "ready");
        return this;
    }

    public bool Run(Func<bool> condition) => Machine.RunUntil(condition, 2_000_000);

    public void Settle()
    {
        for (int i = 0; i < 2000; i++) { Machine.Clock.Relax(); }
    }

    /// <summary>Puts sixteen dwords into the ring and rings the doorbell.</summary>
    public ushort Submit(Ring ring, uint[] dwords)
    {
        ushort id = ++ring.LastId;
        dwords[0] |= (uint)id << 16;
        byte[] bytes = new byte[64];
        Buffer.BlockCopy(dwords, 0, bytes, 0, 64);
        Machine.Memory.TryWrite(new(ring.Submissions + (ring.Tail * 64)), bytes);
        ring.Tail = (ring.Tail + 1) % ring.SubmissionSize;
        Registers.Write32(0x1000 + ((uint)ring.Id * 8), ring.Tail);
        return id;
    }

    public bool TryPeek(Ring ring, out Answer answer)
    {
        byte[] bytes = new byte[16];
        Machine.Memory.TryRead(new(ring.Completions + (ring.Head * 16)), bytes);
        answer = new(Word(bytes, 0), Word(bytes, 8), Word(bytes, 12));
        return answer.Phase == ring.Phase;
    }

    public Answer Take(Ring ring, bool ringDoorbell = true)
    {
        Answer answer = default;
        Assert.True(Run(() => TryPeek(ring, out answer)), $"no completion in queue {ring.Id}, CSTS 0x{Status:X}");
        ring.Head = (ring.Head + 1) % ring.CompletionSize;
        if (ring.Head == 0) { ring.Phase = !ring.Phase; }
        if (ringDoorbell) { Registers.Write32(0x1004 + ((uint)ring.Id * 8), ring.Head); }
        return answer;
    }

    public Answer Execute(Ring ring, uint[] dwords)
    {
        ushort id = Submit(ring, dwords);
        Answer answer = Take(ring);
        Assert.Equal(id, answer.CommandId);
        Assert.Equal(ring.Id, answer.Queue);
        return answer;
    }

    public Answer ExecuteAdmin(
        uint opcode, uint ns = 0, ulong prp1 = 0, uint d10 = 0, uint d11 = 0, uint d12 = 0, uint d13 = 0) =>
        Execute(Admin, Command(opcode, ns, prp1, 0, d10, d11, d12, d13));

    public static uint[] Command(
        uint opcode, uint ns = 1, ulong prp1 = 0, ulong prp2 = 0,
        uint d10 = 0, uint d11 = 0, uint d12 = 0, uint d13 = 0) =>
        [
            opcode, ns, 0, 0, 0, 0, (uint)prp1, (uint)(prp1 >> 32),
            (uint)prp2, (uint)(prp2 >> 32), d10, d11, d12, d13, 0, 0,
        ];

    /// <summary>Creates I/O queue pair <paramref name="id"/> by raw commands.</summary>
    public Ring CreateQueues(int id, uint submissionSize, uint completionSize)
    {
        Ring ring = new(id, Page(16), Page(14), submissionSize, completionSize);
        uint completionWord = (uint)id | ((completionSize - 1) << 16);
        uint submissionWord = (uint)id | ((submissionSize - 1) << 16);
        Assert.Equal(0, ExecuteAdmin(5, 0, ring.Completions, completionWord, 0x0000_0001).Status);
        Assert.Equal(0, ExecuteAdmin(1, 0, ring.Submissions, submissionWord, 1u | ((uint)id << 16)).Status);
        return ring;
    }

    public byte[] ReadMemory(ulong address, int length)
    {
        byte[] bytes = new byte[length];
        Assert.True(Machine.Memory.TryRead(new(address), bytes));
        return bytes;
    }

    public void WriteMemory(ulong address, ReadOnlySpan<byte> bytes) =>
        Assert.True(Machine.Memory.TryWrite(new(address), bytes));

    public void Dispose()
    {
        Assert.Empty(Machine.Failures);
        Machine.Dispose();
    }

    private static uint Word(byte[] bytes, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(offset));
}

/// <summary>A medium that fails where and how a test says.</summary>
internal sealed class BrokenMedium(long length) : INvmeMedium
{
    public MediumStatus OnRead { get; set; }

    public MediumStatus OnWrite { get; set; }

    public MediumStatus OnFlush { get; set; }

    public bool IsDisposed { get; private set; }

    public long Length => length;

    public bool IsReadOnly => false;

    public MediumStatus Read(long offset, Span<byte> destination)
    {
        destination.Fill(0xEE);
        return OnRead;
    }

    public MediumStatus Write(long offset, ReadOnlySpan<byte> source) => OnWrite;

    public MediumStatus Flush() => OnFlush;

    public void Dispose() => IsDisposed = true;
}
