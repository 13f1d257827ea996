using Sluice.Machines.Nvme;

namespace Sluice.Machines.Tests.Nvme;

/// <summary>How long one command may be: what is announced, and what is done.</summary>
public sealed class NvmeTransferTests
{
    private const ulong Memory = 256 << 20;
    private const uint Write = 1, Read = 2, Compare = 5, Identify = 6;

    // Seen failing: a limit of 2^12 bytes announced as MDTS 0, which is no limit, and 8 KiB refused all the same.
    [Theory]
    [InlineData(13, 1)]
    [InlineData(19, 7)]
    [InlineData(22, 10)]
    [InlineData(28, 16)]
    [InlineData(NvmeModelOptions.NoLimit, 0)]
    public void WhatIsAnnouncedIsDone(int maxTransferLog2, byte mdts)
    {
        byte[] disk = new byte[64 << 20];
        new Random(maxTransferLog2).NextBytes(disk);
        using NvmeRig rig = new(new MemoryMedium(disk), new() { MaxTransferLog2 = maxTransferLog2 }, memory: Memory);
        Ring ring = rig.Enable().CreateQueues(1, 8, 8);
        ulong data = rig.Page(25);
        Assert.Equal(0, rig.ExecuteAdmin(Identify, 0, rig.Data, 1).Status);
        Assert.Equal(mdts, rig.ReadMemory(rig.Data + 77, 1)[0]);
        // A block count is 16 bits: 32 MiB of blocks of 512 bytes is the most there is to ask for.
        uint most = mdts == 0 || maxTransferLog2 > 25 ? 65_536 : 1u << (maxTransferLog2 - 9);
        foreach (uint blocks in (uint[])[most, most - 1, Math.Min(most, 2048), Math.Min(most, 2049)])
        {
            ulong list = Lists(rig, data, blocks * 512);
            uint first = 65_536 - (blocks / 2);
            Assert.Equal(0, rig.Execute(ring, Transfer(Read, data, list, first, blocks)).Status);
            Assert.True(rig.ReadMemory(data, (int)blocks * 512).AsSpan()
                .SequenceEqual(disk.AsSpan((int)first * 512, (int)blocks * 512)));
            Assert.Equal(0, rig.Execute(ring, Transfer(Compare, data, list, first, blocks)).Status);
            Assert.Equal(0, rig.Execute(ring, Transfer(Write, data, list, 3, blocks)).Status);
            Assert.True(rig.ReadMemory(data, (int)blocks * 512).AsSpan()
                .SequenceEqual(disk.AsSpan(3 * 512, (int)blocks * 512)));
        }
        if (most == 65_536) { return; }
        foreach (uint opcode in (uint[])[Read, Write, Compare])
        {
            Assert.Equal(2, rig.Execute(ring, Transfer(opcode, data, data + 4096, 0, most + 1)).Status);
        }
    }

    // Seen failing: one more taken at either end.
    [Theory]
    [InlineData(12)]
    [InlineData(29)]
    [InlineData(1)]
    public void ALimitThatCannotBeSaidIsRefused(int maxTransferLog2)
    {
        using MemoryMedium medium = new(new byte[4096]);
        ArgumentOutOfRangeException refused = Assert.Throws<ArgumentOutOfRangeException>(
            () => new NvmeModel(medium, new() { MaxTransferLog2 = maxTransferLog2 }));
        Assert.Contains("13 to 28, or 0 for no limit", refused.Message, StringComparison.Ordinal);
    }

    // Seen failing: a long command that went on when the controller was enabled again.
    [Fact]
    public void AResetEndsALongCommandBetweenTwoPieces()
    {
        using NvmeRig rig = new(
            new MemoryMedium(new byte[64 << 20]), new() { MaxTransferLog2 = NvmeModelOptions.NoLimit }, memory: Memory);
        Ring ring = rig.Enable().CreateQueues(1, 8, 8);
        ulong data = rig.Page(25);
        ulong list = Lists(rig, data, 32 << 20);
        rig.Submit(ring, Transfer(Read, data, list, 0, 65_536));
        long started = rig.Device.Port.Bytes;
        Assert.True(rig.Run(() => rig.Device.Port.Bytes > started + (2 << 20)));
        rig.Registers.Write32(0x14, 0);
        Assert.True(rig.Run(() => rig.Status == 0));
        long stopped = rig.Device.Port.Bytes;
        Assert.True(stopped < started + (16 << 20));
        rig.Settle();
        Assert.Equal(stopped, rig.Device.Port.Bytes);
        rig.Enable();
        Ring again = rig.CreateQueues(1, 8, 8);
        rig.Settle();
        Assert.True(rig.Device.Port.Bytes < stopped + (1 << 20));
        Assert.Equal(0, rig.Execute(again, Transfer(Read, data, list, 0, 65_536)).Status);
    }

    // A refusal late in a long command is that command's answer, and the next one works.
    // Seen failing: the answer of the first piece given as that of the command.
    [Fact]
    public void ARefusalInTheLastPieceIsTheCommandsAnswer()
    {
        using NvmeRig rig = new(
            new MemoryMedium(new byte[64 << 20]), new() { MaxTransferLog2 = NvmeModelOptions.NoLimit }, memory: Memory);
        Ring ring = rig.Enable().CreateQueues(1, 8, 8);
        ulong data = rig.Page(25);
        ulong list = Lists(rig, data, 8 << 20, last: NvmeRig.NoMemory);
        Assert.Equal(4, rig.Execute(ring, Transfer(Read, data, list, 0, 16_384)).Status);
        Assert.Equal(0, rig.Execute(ring, Transfer(Read, data, list, 0, 16_384 - 8)).Status);
    }

    // A chained list of all pages but the first, which PRP1 names.
    private static ulong Lists(NvmeRig rig, ulong data, uint bytes, ulong? last = null)
    {
        int pages = (int)((bytes + 4095) >> 12) - 1;
        if (pages <= 1) { return data + 4096; }
        ulong area = rig.Page(18);
        ulong[] entries = [.. Enumerable.Range(1, pages).Select(i => data + ((ulong)i << 12))];
        if (last is { } elsewhere) { entries[^1] = elsewhere; }
        ulong at = area;
        for (int i = 0; i < entries.Length; at += 8)
        {
            bool chains = (at & 0xFFF) == 0xFF8 && i < entries.Length - 1;
            rig.WriteMemory(at, BitConverter.GetBytes(chains ? at + 8 : entries[i++]));
        }
        return area;
    }

    private static uint[] Transfer(uint opcode, ulong prp1, ulong prp2, uint first, uint blocks) =>
        NvmeRig.Command(opcode, 1, prp1, prp2, first, 0, blocks - 1);
}
