using Sluice.Iommu.Vtd;

namespace Sluice.Iommu.Tests;

/// <summary>A unit's state saved and taken over by another unit, which must go on as the first would have.</summary>
public sealed class SnapshotTests
{
    private const int Bytes = 1 << 20;

    private static readonly uint[] Words =
        [0x00, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x80, 0x88, 0x90, 0x98, 0xA0, 0xA8, 0xB0, 0xB8, 0xF8];

    // A storm of faults from many sources, served now and then, with invalidations, masked events and a queue that is
    // stopped; at some moment another unit takes the state over, and both are driven on alike: every register, every
    // record, every answer and every message must be the same.
    // Seen failing: the ring index, the pending event, the overflow, the latched queue base, the head, the root pointer
    // (each in turn) left out of what is carried.
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void TryRestore_InTheMiddleOfAFaultStorm_GoesOnAsTheOriginal(int records)
    {
        for (int seed = 0; seed < 60; seed++)
        {
            Random random = new(seed);
            VtdOptions options = new() { FaultRecords = records, CompressFaults = seed % 2 == 0 };
            byte[] memory = new byte[Bytes];
            using Rig first = new(options, memory: new ByteMemory(memory));
            ulong table = first.Attach(1, 1);
            first.Map(table, 3, 0x1000, 0x8_0000);
            first.Enable();
            first.Registers.Write64(0x38, 0x0061_0000_0000UL);
            first.Registers.Write64(0x40, 0xFEE0_3000);
            first.Registers.Write64(0xA0, 0x0062_0000_0000UL);
            first.Registers.Write64(0xA8, 0xFEE0_3000);
            int moment = random.Next(200);
            for (int step = 0; step < moment; step++) { Drive(first, random.Next()); }

            byte[] state = first.Unit.Save();
            using Rig second = new(options, memory: new ByteMemory([.. memory]));
            Assert.True(second.Unit.TryRestore(state));
            Assert.Equal(state, second.Unit.Save());
            first.Delivered.Clear();
            for (int step = 0; step < 100; step++)
            {
                int what = random.Next();
                Assert.Equal(Drive(first, what), Drive(second, what));
                AssertSame(first, second, $"seed {seed}, moment {moment}, step {step}");
            }
        }
    }

    // Seen failing: the length not compared; the capabilities not compared.
    [Fact]
    public void TryRestore_OfWhatIsNotItsState_ChangesNothing()
    {
        using Rig rig = new();
        rig.Enable();
        rig.Physical(7, 0x5000);
        byte[] state = rig.Unit.Save();
        using Rig other = new(new() { FaultRecords = 4 });
        Assert.False(rig.Unit.TryRestore(other.Unit.Save()));
        using Rig narrow = new(new() { AddressBits = 48 });
        Assert.False(rig.Unit.TryRestore(narrow.Unit.Save()));
        Assert.False(rig.Unit.TryRestore([]));
        Assert.False(rig.Unit.TryRestore(state.AsSpan(8)));
        Assert.False(rig.Unit.TryRestore([.. state, 0]));
        byte[] damaged = [.. state];
        damaged[0] ^= 1;
        Assert.False(rig.Unit.TryRestore(damaged));
        Assert.Equal(state, rig.Unit.Save());
    }

    // The ring lies where every word is a command that works, so only its size and its tail end a run.
    // Seen failing: the ring's size taken as it comes, which never wraps and never ends.
    [Fact]
    public void TryRestore_OfRandomWords_LeavesAUnitThatStillAnswers()
    {
        byte[] memory = new byte[Bytes];
        for (int at = 0; at < Bytes; at += 16) { memory[at] = 0x12; }
        using Rig rig = new(memory: new ByteMemory(memory));
        byte[] state = rig.Unit.Save();
        const int RingFirst = 11 * sizeof(ulong);
        for (int seed = 0; seed < 50; seed++)
        {
            new Random(seed).NextBytes(state.AsSpan(3 * sizeof(ulong)));
            state.AsSpan(RingFirst, sizeof(ulong)).Clear();
            Assert.True(rig.Unit.TryRestore(state));
            rig.Physical((ushort)seed, (ulong)seed << 12);
            rig.Registers.Write64(0x88, 0x7FFF0);
            rig.Registers.Write32(0x34, 0x7F);
            foreach (uint word in Words) { rig.Registers.Read64(word); }
            rig.FreeAllRecords();
        }
        rig.Unit.Reset();
        Assert.Equal(0x1000UL, rig.Physical(1, 0x1000));
    }

    // What is cached may be forgotten. Seen failing: the caches kept over a restore.
    [Fact]
    public void TryRestore_ForgetsWhatIsCached()
    {
        using Rig rig = new();
        ulong leaf = rig.Map(rig.Attach(1, 1), 3, 0x1000, 0x80_0000);
        rig.Enable();
        Assert.Equal(0x80_0000UL, rig.Physical(1, 0x1000));
        rig.Poke(leaf, 0);
        Assert.Equal(0x80_0000UL, rig.Physical(1, 0x1000));
        Assert.True(rig.Unit.TryRestore(rig.Unit.Save()));
        Assert.Null(rig.Physical(1, 0x1000));
    }

    private static ulong? Drive(Rig rig, int what)
    {
        int number = what >> 8;
        switch (what & 15)
        {
            case < 7:
                return rig.Physical((ushort)(number & 7), 0x1000UL + ((ulong)number >> 4 & 1) * 0x1000);
            case < 9:
                rig.FreeRecord(number % rig.Unit.Options.FaultRecords);
                return null;
            case 9:
                rig.Registers.Write32(0x34, 1);
                return null;
            case 10:
                rig.Registers.Write32(0x38, (uint)(number & 1) << 31);
                return null;
            case 11:
                rig.Registers.Write32(0xA0, (uint)(number & 1) << 31);
                return null;
            case 12:
                rig.Submit((0x12UL, 0UL), (0x35 | (ulong)(uint)number << 32, Rig.Status));
                return rig.Peek(Rig.Status);
            case 13:
                rig.Submit((0xFUL, 0UL));
                return null;
            case 14:
                // What stopped the queue is replaced by a wait, and the queue goes on.
                rig.Poke(Rig.Queue + rig.Registers.Read64(0x80), 0x05);
                rig.Registers.Write32(0x34, 0x10);
                return null;
            default:
                rig.Registers.Write32(0x9C, 1);
                return null;
        }
    }

    private static void AssertSame(Rig first, Rig second, string where)
    {
        foreach (uint word in Words)
        {
            ulong one = first.Registers.Read64(word), two = second.Registers.Read64(word);
            Assert.True(one == two, $"{where}: register 0x{word:X} is 0x{one:X} and 0x{two:X}");
        }
        for (int i = 0; i < first.Unit.Options.FaultRecords; i++)
        {
            Assert.True(first.Record(i) == second.Record(i), $"{where}: record {i}");
        }
        Assert.Equal(first.Delivered, second.Delivered);
    }
}
