using Sluice.Machines.Nvme;

namespace Sluice.Machines.Tests.Nvme;

public sealed class NvmeQueueTests
{
    private const uint Read = 2, Flush = 0;

    // Seen failing: the phase tag not inverted when the ring wraps.
    [Theory]
    [InlineData(2U, 2U)]
    [InlineData(3U, 2U)]
    [InlineData(2U, 3U)]
    [InlineData(7U, 5U)]
    [InlineData(16U, 16U)]
    [InlineData(255U, 3U)]
    public void RingsWrapAndPhasesAlternate(uint submissionSize, uint completionSize)
    {
        byte[] disk = new byte[1 << 20];
        for (int i = 0; i < disk.Length; i += 512) { BitConverter.TryWriteBytes(disk.AsSpan(i), i / 512); }
        using NvmeRig rig = new(new MemoryMedium(disk));
        Ring ring = rig.Enable().CreateQueues(1, submissionSize, completionSize);
        Random random = new(1);
        int submitted = 0, completed = 0;
        uint head = 0;
        while (completed < 600)
        {
            while (submitted - completed < submissionSize - 1 && submitted < 600 && random.Next(4) != 0)
            {
                int block = submitted++;
                ulong place = rig.Data + (ulong)(block % 256 * 4096);
                rig.Submit(ring, NvmeRig.Command(Read, 1, place, 0, (uint)block));
            }
            while (completed < submitted && random.Next(3) != 0)
            {
                Answer answer = rig.Take(ring, ringDoorbell: true);
                head = (head + 1) % submissionSize;
                completed++;
                Assert.Equal((ushort)completed, answer.CommandId); // one at a time, in order
                Assert.Equal(0, answer.Status);
                uint ahead = (answer.Head + submissionSize - head) % submissionSize;
                Assert.True(ahead <= submitted - completed, "the head never passes the tail");
                ulong data = rig.Data + (ulong)((completed - 1) % 256 * 4096);
                Assert.Equal(completed - 1, BitConverter.ToInt32(rig.ReadMemory(data, 4)));
            }
        }
        Assert.False(rig.TryPeek(ring, out _));
    }

    [Fact]
    public void FullCompletionQueueHoldsCommandsBack()
    {
        using NvmeRig rig = new(new MemoryMedium(new byte[1 << 20]));
        Ring ring = rig.Enable().CreateQueues(1, 16, 3);
        for (int i = 0; i < 8; i++) { rig.Submit(ring, NvmeRig.Command(Flush)); }
        rig.Settle();
        // Two fit. Seen failing: the free-entries rule without its "one stays empty".
        Assert.Equal(1, rig.Take(ring, ringDoorbell: false).CommandId);
        Assert.Equal(2, rig.Take(ring, ringDoorbell: false).CommandId);
        rig.Settle();
        Assert.False(rig.TryPeek(ring, out _));
        rig.Registers.Write32(0x1000 + 12, 2);
        for (ushort id = 3; id <= 8; id++) { Assert.Equal(id, rig.Take(ring).CommandId); }
        Assert.Equal(0, rig.ExecuteAdmin(0xA, 0, 0, 6).Status); // other queues were never held up
    }

    [Fact]
    public void QueuesShareACompletionQueue()
    {
        using NvmeRig rig = new(new MemoryMedium(new byte[1 << 20]));
        Ring one = rig.Enable().CreateQueues(1, 8, 64);
        ulong submissions = rig.Page();
        Assert.Equal(0, rig.ExecuteAdmin(1, 0, submissions, 2 | (7u << 16), 1u | (1u << 16)).Status);
        Ring two = new(2, submissions, 0, 8, 64);
        for (int i = 0; i < 5; i++)
        {
            rig.Submit(one, NvmeRig.Command(Flush));
            rig.Submit(two, NvmeRig.Command(Flush));
        }
        Answer[] answers = [.. Enumerable.Range(0, 10).Select(_ => rig.Take(one))];
        Assert.Equal(5, answers.Count(a => a.Queue == 1));
        Assert.Equal(5, answers.Count(a => a.Queue == 2));
    }

    [Fact]
    public void ResetInTheMiddleForgetsHeldCommandsAndDoesNoLateDma()
    {
        using NvmeRig rig = new(new MemoryMedium(new byte[1 << 20]));
        rig.Device.Misbehave = c => c.Queue == 1 ? NvmeMisbehaviour.Hold : NvmeMisbehaviour.None;
        Ring ring = rig.Enable().CreateQueues(1, 8, 8);
        byte[] before = new byte[4096];
        Array.Fill(before, (byte)0x55);
        rig.WriteMemory(rig.Data, before);
        for (int i = 0; i < 5; i++) { rig.Submit(ring, NvmeRig.Command(Read, 1, rig.Data)); }
        rig.Settle();
        rig.Registers.Write32(0x14, 0);
        Assert.True(rig.Run(() => rig.Status == 0));
        rig.Device.Misbehave = null;
        long pieces = rig.Device.Port.Pieces;
        rig.Registers.Write32(0x1000 + 8, 7); // doorbells of a disabled controller mean nothing
        rig.Settle();
        Assert.Equal(pieces, rig.Device.Port.Pieces);
        Assert.Equal(before, rig.ReadMemory(rig.Data, 4096));
        rig.Enable();
        Ring again = rig.CreateQueues(1, 8, 8);
        Assert.Equal(0, rig.Execute(again, NvmeRig.Command(Read, 1, rig.Data)).Status);
    }

    [Fact]
    public void HeldCommandsAreAbortedAndDeletedQueuesAnswerForTheirs()
    {
        using NvmeRig rig = new(new MemoryMedium(new byte[1 << 20]));
        rig.Device.Misbehave = c => c.Queue == 1
            ? c.CommandId == 3 ? NvmeMisbehaviour.HoldDeaf : NvmeMisbehaviour.Hold
            : NvmeMisbehaviour.None;
        Ring ring = rig.Enable().CreateQueues(1, 8, 8);
        for (int i = 0; i < 4; i++) { rig.Submit(ring, NvmeRig.Command(Flush)); }
        rig.Settle();
        Assert.Equal(0U, rig.ExecuteAdmin(8, 0, 0, 1 | (2u << 16)).Result);
        Answer aborted = rig.Take(ring);
        Assert.Equal((2, 0x007), (aborted.CommandId, aborted.Status));
        Assert.Equal(1U, rig.ExecuteAdmin(8, 0, 0, 1 | (3u << 16)).Result); // deaf
        Assert.Equal(0, rig.ExecuteAdmin(0, 0, 0, 1).Status);
        Answer[] deleted = [rig.Take(ring), rig.Take(ring), rig.Take(ring)];
        Assert.All(deleted, a => Assert.Equal(0x008, a.Status));
        Assert.Equal([1, 3, 4], deleted.Select(a => (int)a.CommandId).Order());
    }

    [Fact]
    public void InterruptsComeThroughMsixAndOnlyWhenEnabled()
    {
        using NvmeRig rig = new(new MemoryMedium(new byte[1 << 20]));
        int admin = 0, io = 0;
        using IInterruptLine adminLine = rig.Machine.ConnectInterrupt("admin", () => admin++);
        using IInterruptLine ioLine = rig.Machine.ConnectInterrupt("io", () => io++);
        rig.Function.EnableMsix(0, adminLine);
        rig.Function.EnableMsix(5, ioLine);
        rig.Enable();
        Ring quiet = rig.CreateQueues(1, 8, 8);
        ulong completions = rig.Page(), submissions = rig.Page();
        Assert.Equal(0, rig.ExecuteAdmin(5, 0, completions, 2 | (7u << 16), 0x0005_0003).Status);
        Assert.Equal(0, rig.ExecuteAdmin(1, 0, submissions, 2 | (7u << 16), 0x0002_0001).Status);
        Assert.True(rig.Run(() => admin > 0));
        Assert.Equal(0, rig.Execute(quiet, NvmeRig.Command(Flush)).Status);
        rig.Settle();
        Assert.Equal(0, io);
        Assert.Equal(0, rig.Execute(new(2, submissions, completions, 8, 8), NvmeRig.Command(Flush)).Status);
        Assert.True(rig.Run(() => io == 1));
    }

    [Fact]
    public void TheSameSeedIsTheSameRun()
    {
        static ulong Trace(int seed)
        {
            using NvmeRig rig = new(new MemoryMedium(new byte[1 << 20]), seed: seed);
            Ring ring = rig.Enable().CreateQueues(1, 8, 8);
            for (int i = 0; i < 50; i++) { rig.Execute(ring, NvmeRig.Command(Read, 1, rig.Data, 0, (uint)i)); }
            return rig.Machine.TraceHash;
        }

        Assert.Equal(Trace(5), Trace(5));
    }

    // Any garbage in any command: an answer or a fatal status, never a crash, and no byte outside the medium.
    // Seen failing: no check against the longest transfer.
    [Fact]
    public void RandomCommandsNeverBreakTheController()
    {
        byte[] disk = new byte[4 << 20]; // more blocks than one command may move
        using NvmeRig rig = new(new MemoryMedium(disk));
        Random random = new(99);
        Ring ring = rig.Enable().CreateQueues(1, 16, 16);
        for (int i = 0; i < 3000; i++)
        {
            bool admin = random.Next(3) == 0;
            uint[] dwords = new uint[16];
            for (int d = 0; d < 16; d++)
            {
                dwords[d] = random.Next(2) == 0 ? (uint)random.Next(4) : (uint)random.NextInt64(1L << 32);
            }
            dwords[0] = (uint)random.Next(random.Next(2) == 0 ? 16 : 256);
            if (random.Next(3) == 0) // nearly right: blocks that are there, as many as one command may move or more
            {
                (dwords[0], dwords[1]) = ((uint)random.Next(10), 1);
                (dwords[10], dwords[11], dwords[12]) = ((uint)random.Next(4096), 0, (uint)random.Next(4096));
            }
            // Data goes where no memory is, or where it harms nobody.
            (dwords[7], dwords[9]) = (dwords[7] | 0x40, dwords[9] | 0x40);
            if (random.Next(2) == 0)
            {
                (dwords[6], dwords[7], dwords[8], dwords[9]) = ((uint)rig.Data, 0, (uint)rig.Lists, 0);
            }
            Ring target = admin ? rig.Admin : ring;
            ushort id = rig.Submit(target, dwords);
            bool answered = rig.Run(() =>
                rig.TryPeek(target, out _) || (rig.Status & 2) != 0 || (byte)dwords[0] == 0xC);
            Assert.True(answered, $"command {i} was lost: {string.Join(' ', dwords.Select(d => d.ToString("X8")))}");
            while (rig.TryPeek(target, out _)) { rig.Take(target); }
            bool mayHaveLostQueues = admin && (byte)dwords[0] is 0 or 1 or 4 or 5 or 0xC;
            if ((rig.Status & 2) == 0 && !mayHaveLostQueues && i % 50 != 49) { continue; }
            rig.Registers.Write32(0x14, 0);
            Assert.True(rig.Run(() => rig.Status == 0));
            ring = rig.Enable().CreateQueues(1, 16, 16);
        }
    }
}
