using Sluice.Dma;
using Sluice.Machines.Nvme;

namespace Sluice.Drivers.Tests.Nvme;

/// <summary>Buffers in pieces: what PRP entries cannot say in one command becomes several.</summary>
public sealed class NvmeChainTests
{
    private const int DiskBytes = 4 << 20;

    // Seen failing: every chain with a gap refused; and a run that began at the chain's start instead of the request's.
    [Theory]
    [InlineData(false, 9)]
    [InlineData(true, 9)]
    [InlineData(true, 12)]
    public async Task ChainsWithGapsBetweenBlocksBecomeSeveralCommands(bool remapped, int blockSizeLog2)
    {
        byte[] disk = Pattern.Disk(DiskBytes);
        using NvmeHost host = new(
            new MemoryMedium(disk.AsSpan().ToArray()), remapped: remapped,
            device: new() { BlockSizeLog2 = blockSizeLog2 });
        Random random = new(blockSizeLog2);
        int block = 1 << blockSizeLog2;
        for (int round = 0; round < 60; round++)
        {
            Mdl[] parts = Chain(host, random, block);
            uint all = (uint)parts[0].ChainByteCount;
            uint offset = (uint)(random.Next((int)(all / (uint)block)) * block);
            uint length = (uint)(random.Next(1, (int)((all - offset) / (uint)block) + 1) * block);
            int first = random.Next((DiskBytes - (int)length) / block);
            await host.Disk.ReadAsync((ulong)first, parts[0], offset, length);
            byte[] got = Content(parts);
            Assert.True(got.AsSpan((int)offset, (int)length).SequenceEqual(disk.AsSpan(first * block, (int)length)));
            Assert.Equal(-1, got.AsSpan(0, (int)offset).IndexOfAnyExcept((byte)0));
            Assert.Equal(-1, got.AsSpan((int)(offset + length)).IndexOfAnyExcept((byte)0));
            int elsewhere = random.Next((DiskBytes - (int)length) / block);
            await host.Disk.WriteAsync((ulong)elsewhere, parts[0], offset, length);
            got.AsSpan((int)offset, (int)length).CopyTo(disk.AsSpan(elsewhere * block));
            Array.ForEach(parts, part => part.Dispose());
        }
        using Mdl whole = host.Buffer(DiskBytes);
        await host.Disk.ReadAsync(0, whole, 0, DiskBytes);
        Assert.True(host.Content(whole).AsSpan().SequenceEqual(disk));
    }

    // Seen failing: found by the thread that maps, so the answer came at the await and other pieces had been moved.
    [Fact]
    public void AGapInsideABlockIsRefusedBeforeAnythingMoves()
    {
        using NvmeHost host = new(new MemoryMedium(Pattern.Disk(DiskBytes)));
        using Mdl first = host.Buffer(768);
        using Mdl second = host.Buffer(1280);
        first.Next = second;
        ArgumentException refused = Assert.Throws<ArgumentException>(
            () => { _ = host.Disk.ReadAsync(0, first, 0, 2048); });
        Assert.Contains("a gap in the buffer after 768 bytes divides a block of 512 bytes", refused.Message,
            StringComparison.Ordinal);
        using Mdl odd = host.Buffer(1024, 6);
        using Mdl whole = host.Buffer(512);
        whole.Next = odd;
        refused = Assert.Throws<ArgumentException>(() => { _ = host.Disk.ReadAsync(0, whole, 0, 1024); });
        Assert.Contains("multiple of 4", refused.Message, StringComparison.Ordinal);
        // What lies behind the request is nobody's business, and a gap between blocks is fine.
        host.Disk.Read(0, first, 0, 512);
        host.Disk.Read(0, first, 256, 1024);
        Assert.Equal(-1, host.Content(odd).AsSpan().IndexOfAnyExcept((byte)0));
    }

    private static Mdl[] Chain(NvmeHost host, Random random, int block)
    {
        var parts = new Mdl[random.Next(1, 7)];
        for (int i = 0; i < parts.Length; i++)
        {
            // Also parts that join: whole pages from the start of a page.
            bool joins = random.Next(3) == 0;
            parts[i] = joins ? host.Buffer(random.Next(1, 4) * 4096)
                : host.Buffer(random.Next(1, 12) * block, random.Next(1024) * 4);
            if (i > 0) { parts[i - 1].Next = parts[i]; }
        }
        return parts;
    }

    private static byte[] Content(Mdl[] parts)
    {
        List<byte> all = [];
        foreach (Mdl part in parts)
        {
            byte[] bytes = new byte[part.ByteCount];
            part.CopyTo(0, bytes);
            all.AddRange(bytes);
        }
        return [.. all];
    }
}
