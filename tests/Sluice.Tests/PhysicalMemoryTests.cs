namespace Sluice.Tests;

public sealed class PhysicalMemoryTests : IDisposable
{
    private readonly MemoryBanks _banks;
    private readonly PhysicalMemory _memory;

    public PhysicalMemoryTests()
    {
        NativeBlock block = NativeBlock.Allocate(0x5000);
        _banks = new(
            new MemoryBank(new(0x1_0000_0000), block, 0x3000, 0x2000),
            new MemoryBank(new(0x1000), block, 0, 0x3000));
        _memory = _banks.Memory;
    }

    public void Dispose() => _banks.Dispose();

    [Theory]
    [InlineData(0x1000UL, true)]
    [InlineData(0x3FF8UL, true)]
    [InlineData(0x3FFCUL, false)]
    [InlineData(0x4000UL, false)]
    [InlineData(0xFF8UL, false)]
    [InlineData(0x0UL, false)]
    [InlineData(0x1004UL, false)]
    [InlineData(0x1_0000_0000UL, true)]
    [InlineData(0x1_0000_1FF8UL, true)]
    [InlineData(0x1_0000_2000UL, false)]
    [InlineData(ulong.MaxValue - 7, false)]
    public void WordsExistExactlyInsideTheBanks(ulong address, bool exists)
    {
        Assert.Equal(exists, _memory.TryWrite64(new(address), 0x1122334455667788));
        Assert.Equal(exists, _memory.TryRead64(new(address), out ulong word));
        Assert.Equal(exists ? 0x1122334455667788UL : 0, word);
    }

    [Theory]
    [InlineData(0x1000UL, 0x3000, true)]
    [InlineData(0x1000UL, 0x3001, false)]
    [InlineData(0x3FFFUL, 1, true)]
    [InlineData(0x3FFFUL, 2, false)]
    [InlineData(0x1_0000_1FFFUL, 2, false)]
    [InlineData(ulong.MaxValue, 2, false)]
    public void BytesExistExactlyInsideTheBanks(ulong address, int length, bool exists)
    {
        byte[] bytes = new byte[length];
        Array.Fill(bytes, (byte)0xA5);
        Assert.Equal(exists, _memory.TryWrite(new(address), bytes));
        Assert.Equal(exists, _memory.TryRead(new(address), bytes));
        Assert.Equal(exists, _memory.TryGetSpan(new(address), length, out _));
    }

    [Fact]
    public void CompareExchangeStoresOnlyOnAMatch()
    {
        PhysicalAddress slot = new(0x1_0000_0008);
        Assert.True(_memory.TryCompareExchange64(slot, 0, 5, out ulong before));
        Assert.Equal(0UL, before);
        Assert.True(_memory.TryCompareExchange64(slot, 4, 9, out before));
        Assert.Equal(5UL, before);
        Assert.True(_memory.TryRead64(slot, out ulong now));
        Assert.Equal(5UL, now);
    }

    [Fact]
    public void ReadOnlyBanksRefuseStores()
    {
        using MemoryBanks dump = new(new MemoryBank(new(0), NativeBlock.Allocate(0x1000), 0, 0x1000, Writable: false));
        Assert.False(dump.Memory.TryWrite64(new(0), 1));
        Assert.False(dump.Memory.TryWrite(new(0), [1]));
        Assert.True(dump.Memory.TryRead64(new(0), out ulong word));
        Assert.Equal(0UL, word);
    }

    [Fact]
    public void AnOddLengthBankEndsAtItsLastByte()
    {
        using MemoryBanks dump = new(new MemoryBank(new(0), NativeBlock.Allocate(0x1000), 0, 0x103));
        Assert.True(dump.Memory.TryRead64(new(0xF8), out _));
        Assert.False(dump.Memory.TryRead64(new(0x100), out _));
        Assert.True(dump.Memory.TryRead(new(0x100), new byte[3]));
        Assert.False(dump.Memory.TryRead(new(0x100), new byte[4]));
    }

    [Fact]
    public void OverlappingBanksAreRefused()
    {
        NativeBlock block = NativeBlock.Allocate(0x2000);
        Assert.Throws<ArgumentException>(() => new MemoryBanks(
            new MemoryBank(new(0), block, 0, 0x2000), new MemoryBank(new(0x1000), block, 0, 0x1000)));
        block.Dispose();
    }

    [Theory]
    [InlineData(0x1000UL, true)]
    [InlineData(0x3FF0UL, true)]
    [InlineData(0x1008UL, false)]
    [InlineData(0x4000UL, false)]
    [InlineData(0xFF0UL, false)]
    [InlineData(0x1_0000_1FF0UL, true)]
    [InlineData(0x1_0000_2000UL, false)]
    [InlineData(ulong.MaxValue - 15, false)]
    public void PairsOfWordsExistExactlyInsideTheBanks(ulong address, bool exists)
    {
        exists &= PhysicalMemory.HasAtomic128;
        Assert.Equal(exists, _memory.TryWrite128(new(address), 0x1111, 0x2222));
        Assert.Equal(exists, _memory.TryRead128(new(address), out ulong low, out ulong high));
        Assert.Equal(exists ? (0x1111UL, 0x2222UL) : (0, 0), (low, high));
        if (!exists) { return; }
        Assert.True(_memory.TryRead64(new(address + 8), out ulong upper));
        Assert.Equal(0x2222UL, upper);
    }

    // Seen failing: TryWrite128 as two 64-bit stores; TryRead128 as two 64-bit loads (on a busy machine, in 10^8
    // turns).
    [Fact]
    public void APairOfWordsIsNeverSeenTorn()
    {
        Assert.SkipUnless(PhysicalMemory.HasAtomic128, "this processor has no single access of 16 bytes");
        PhysicalAddress at = new(0x1_0000_0010);
        bool done = false;
        Thread writer = new(() =>
        {
            for (ulong i = 0; !Volatile.Read(ref done); i++) { _memory.TryWrite128(at, i, ~i); }
        });
        _memory.TryWrite128(at, 0, ~0UL);
        writer.Start();
        int torn = 0, changes = 0;
        ulong last = 0;
        for (int i = 0; i < 3_000_000 || (changes < 20 && i < 300_000_000); i++)
        {
            _memory.TryRead128(at, out ulong low, out ulong high);
            if (low != ~high) { torn++; }
            if (low != last) { (last, changes) = (low, changes + 1); }
        }
        Volatile.Write(ref done, true);
        writer.Join();
        Assert.Equal(0, torn);
        Assert.True(changes >= 20, $"only {changes} changes were seen");
    }
}
