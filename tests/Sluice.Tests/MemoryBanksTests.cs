using System.Runtime.InteropServices;

namespace Sluice.Tests;

/// <summary>Many banks, and memory that belongs to somebody else.</summary>
public sealed class MemoryBanksTests
{
    // Against a look at every bank. Seen failing: an address at a bank's first byte sought in the bank before it.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(64)]
    [InlineData(257)]
    public void AWordIsFoundInTheBankThatHasIt(int count)
    {
        Random random = new(count);
        NativeBlock block = NativeBlock.Allocate((ulong)count * 0x3000);
        MemoryBank[] banks = new MemoryBank[count];
        ulong next = 0x1000;
        for (int i = 0; i < count; i++)
        {
            ulong length = (ulong)random.Next(1, 4) * 0x1000;
            banks[i] = new(new(next), block, (ulong)i * 0x3000, length, Writable: random.Next(4) != 0);
            next += length + (ulong)random.Next(3) * 0x1000;
        }
        random.Shuffle(banks);
        using MemoryBanks all = new(banks);
        for (ulong at = 0; at < next + 0x1000; at += 0xFF8)
        {
            MemoryBank? bank = Array.Find(banks, b => b.Range.Contains(new PhysicalAddress(at)));
            Assert.Equal(bank is not null, all.Memory.TryRead64(new(at), out _));
            Assert.Equal(bank is { Writable: true }, all.Memory.TryWrite64(new(at), at));
            bool whole = bank is not null && bank.Range.Contains(new PhysicalAddress(at + 0x1800 - 1));
            Assert.Equal(whole, all.Memory.TryRead(new(at), new byte[0x1800]));
        }
        foreach (MemoryBank bank in banks.Where(static b => b.Writable))
        {
            Assert.True(all.Memory.TryWrite64(bank.First, bank.First.Value));
        }
        foreach (MemoryBank bank in banks.Where(static b => b.Writable))
        {
            Assert.True(all.Memory.TryRead64(bank.First, out ulong word));
            Assert.Equal(bank.First.Value, word);
        }
    }

    [Fact]
    public void BorrowedMemoryIsSeenByBothAndStaysItsOwners()
    {
        byte[] owner = GC.AllocateUninitializedArray<byte>(0x3000, pinned: true);
        nint start = (Marshal.UnsafeAddrOfPinnedArrayElement(owner, 0) + 0xFFF) & ~0xFFF;
        int offset = (int)(start - Marshal.UnsafeAddrOfPinnedArrayElement(owner, 0));
        owner[offset + 8] = 0x5A;
        using (MemoryBanks banks = new(new MemoryBank(new(0), NativeBlock.Borrow(start, 0x2000, owner), 0, 0x2000)))
        {
            Assert.True(banks.Memory.TryRead64(new(8), out ulong word) && (byte)word == 0x5A);
            Assert.True(banks.Memory.TryWrite64(new(0x1FF8), 0x1122334455667788));
            Assert.False(banks.Memory.TryWrite64(new(0x2000), 1));
        }
        Assert.Equal((0x88, 0x11), (owner[offset + 0x1FF8], owner[offset + 0x1FFF]));
    }

    // Seen failing: the owner not kept.
    [Fact]
    public void ABlockKeepsTheOwnerOfBorrowedMemoryUntilItIsDisposed()
    {
        (NativeBlock block, WeakReference owner) = Borrow();
        GC.Collect();
        Assert.True(owner.IsAlive);
        block.Dispose();
        GC.Collect();
        Assert.False(owner.IsAlive);

        static (NativeBlock Block, WeakReference Owner) Borrow()
        {
            object owner = new();
            return (NativeBlock.Borrow(0x1000, 0x1000, owner), new(owner));
        }
    }

    [Theory]
    [InlineData(0L)]
    [InlineData(0x1008L)]
    public void BorrowedMemoryBeginsAtAPage(long start) =>
        Assert.Throws<ArgumentException>(() => NativeBlock.Borrow((nint)start, 0x1000, new object()));
}
