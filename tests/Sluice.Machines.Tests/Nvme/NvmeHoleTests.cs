using System.Buffers.Binary;
using System.Globalization;
using Sluice.Machines.Nvme;

namespace Sluice.Machines.Tests.Nvme;

/// <summary>Deallocation gives room back, in a time that does not grow with the range.</summary>
public sealed class NvmeHoleTests : IDisposable
{
    private const uint Zeroes = 8, Deallocate = 9;
    private readonly string _path = Path.GetTempFileName();

    public void Dispose() => File.Delete(_path);

    // Seen failing: zeros written instead of holes made.
    [Theory]
    [InlineData(Deallocate)]
    [InlineData(Zeroes)]
    public void AFileGetsHoles(uint opcode)
    {
        byte[] content = new byte[(8 << 20) + 100];
        new Random(3).NextBytes(content);
        File.WriteAllBytes(_path, content);
        FileMedium medium = OpenWithHoles();
        long before = Room();
        using (NvmeRig rig = new(medium))
        {
            Ring ring = rig.Enable().CreateQueues(1, 8, 8);
            // From block 8 on: to the last block, which the file does not fill; or 0x3FF8 blocks.
            rig.WriteMemory(rig.Data, Range(8, (uint)(content.Length / 512) + 1 - 8));
            Answer answer = opcode == Zeroes
                ? rig.Execute(ring, NvmeRig.Command(Zeroes, 1, 0, 0, 8, 0, 0x3FF7))
                : rig.Execute(ring, NvmeRig.Command(Deallocate, 1, rig.Data, 0, 0, 4));
            Assert.Equal(0, answer.Status);
        }
        byte[] after = File.ReadAllBytes(_path);
        int end = opcode == Zeroes ? 0x4000 * 512 : after.Length;
        Assert.Equal(content.Length, after.Length);
        Assert.Equal(content[..4096], after[..4096]);
        Assert.True(after.AsSpan(4096..end).IndexOfAnyExcept((byte)0) < 0);
        Assert.True(Room() < before / 8, $"{before} blocks before, {Room()} after");
    }

    // Seen failing: 800 GiB of zeros to write, which did not end.
    [Fact]
    public void AHundredGibibytesTakeNoTime()
    {
        const long Length = 100L << 30;
        using (FileStream file = File.OpenWrite(_path)) { file.SetLength(Length); }
        FileMedium medium = OpenWithHoles();
        using NvmeRig rig = new(medium);
        Ring ring = rig.Enable().CreateQueues(1, 8, 8);
        byte[] ranges = new byte[8 * 16];
        for (int i = 0; i < 8; i++) { Range(0, (uint)(Length / 512)).CopyTo(ranges, i * 16); }
        rig.WriteMemory(rig.Data, ranges);
        Assert.Equal(0, rig.Execute(ring, NvmeRig.Command(Deallocate, 1, rig.Data, 0, 7, 4)).Status);
        Assert.Equal(Length, new FileInfo(_path).Length);
    }

    // Seen failing: zeros written where there can be no holes.
    [Theory]
    [InlineData(true, 9)]
    [InlineData(false, 0)]
    public void WhereThereAreNoHolesADeallocationIsAHint(bool holes, byte feature)
    {
        // A medium that cannot be written: a deallocation that tried would say so.
        using NvmeRig rig = new(holes ? new MemoryMedium(new byte[1 << 20])
            : new BrokenMedium(1 << 20) { OnWrite = MediumStatus.WriteFault });
        Ring ring = rig.Enable().CreateQueues(1, 8, 8);
        rig.WriteMemory(rig.Data, Range(0, 2048));
        Assert.Equal(0, rig.Execute(ring, NvmeRig.Command(Deallocate, 1, rig.Data, 0, 0, 4)).Status);
        Assert.Equal(0, rig.Execute(rig.Admin, NvmeRig.Command(6, 1, rig.Data)).Status);
        Assert.Equal(feature, rig.ReadMemory(rig.Data, 64)[33]);
    }

    // Seen failing: a hole of no bytes asked of the system.
    [Fact]
    public void AHoleMayReachPastTheEndAndBeNone()
    {
        File.WriteAllBytes(_path, [1, 2, 3, 4, 5]);
        using FileMedium medium = OpenWithHoles();
        Assert.Equal(MediumStatus.Done, medium.Deallocate(3, 509));
        Assert.Equal(MediumStatus.Done, medium.Deallocate(5, 507));
        Assert.Equal([1, 2, 3, 0, 0], File.ReadAllBytes(_path));
        using FileMedium readOnly = FileMedium.Open(_path, readOnly: true);
        Assert.False(readOnly.CanDeallocate);
        Assert.Equal(MediumStatus.ReadOnly, readOnly.Deallocate(0, 1));
    }

    // Seen failing: sixteen holes of 64 MiB each in one step, which a medium in memory fills with a GiB of zeros.
    [Fact]
    public void AStepMakesHolesOf64MebibytesAltogether()
    {
        NvmeRig? rig = null;
        HoledMedium medium = new(1L << 30, () => rig!.Machine.Clock.Nanoseconds);
        using NvmeRig made = rig = new(medium);
        Ring ring = rig.Enable().CreateQueues(1, 8, 8);
        byte[] ranges = new byte[40 * 16];
        for (int i = 0; i < 40; i++) { Range(8, i < 20 ? 8u : (64 << 11) + 8u).CopyTo(ranges, i * 16); }
        rig.WriteMemory(rig.Data, ranges);
        Assert.Equal(0, rig.Execute(ring, NvmeRig.Command(Deallocate, 1, rig.Data, 0, 39, 4)).Status);
        Assert.Equal(20 * 4096L + (20 * ((64 << 20) + 4096L)), medium.Holes.Sum(static hole => hole.Length));
        // No time passes in a step.
        foreach (IGrouping<long, (long Time, long Length)> step in medium.Holes.GroupBy(static hole => hole.Time))
        {
            Assert.InRange(step.Count(), 1, 16);
            Assert.InRange(step.Sum(static hole => hole.Length), 1, 64 << 20);
        }
    }

    /// <summary>A medium that tells when it got which hole.</summary>
    private sealed class HoledMedium(long length, Func<long> clock) : INvmeMedium
    {
        public List<(long Time, long Length)> Holes { get; } = [];

        public long Length => length;

        public bool IsReadOnly => false;

        public bool CanDeallocate => true;

        public MediumStatus Deallocate(long offset, long length)
        {
            Holes.Add((clock(), length));
            return MediumStatus.Done;
        }

        public MediumStatus Read(long offset, Span<byte> destination) => MediumStatus.Done;

        public MediumStatus Write(long offset, ReadOnlySpan<byte> source) => MediumStatus.Done;

        public MediumStatus Flush() => MediumStatus.Done;

        public void Dispose()
        {
        }
    }

    private FileMedium OpenWithHoles()
    {
        FileMedium medium = FileMedium.Open(_path, readOnly: false);
        if (!medium.CanDeallocate)
        {
            medium.Dispose();
            Assert.Skip("the file system of the temporary folder has no holes");
        }
        return medium;
    }

    /// <summary>What the file takes, in blocks of 512 bytes.</summary>
    private long Room() => long.Parse(
        Fixtures.RunTool("stat", Path.GetTempPath(), "-c", "%b", _path), CultureInfo.InvariantCulture);

    private static byte[] Range(ulong first, uint blocks)
    {
        byte[] range = new byte[16];
        BinaryPrimitives.WriteUInt32LittleEndian(range.AsSpan(4), blocks);
        BinaryPrimitives.WriteUInt64LittleEndian(range.AsSpan(8), first);
        return range;
    }
}
