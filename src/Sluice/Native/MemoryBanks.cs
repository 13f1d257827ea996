namespace Sluice;

/// <summary>One run of physical memory and the native bytes behind it.</summary>
/// <param name="First">Its physical address, page aligned.</param>
/// <param name="Block">The bytes.</param>
/// <param name="Offset">Where in the block it starts.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Writable">Whether stores are allowed.</param>
public sealed record MemoryBank(
    PhysicalAddress First, NativeBlock Block, ulong Offset, ulong Length, bool Writable = true)
{
    /// <summary>The physical addresses it covers.</summary>
    public PhysicalRange Range => PhysicalRange.FromLength(First, Length);
}

/// <summary>
/// The memory of one machine: its banks, and their lifetime. Hand out <see cref="Memory"/>, keep this.
/// </summary>
public sealed unsafe class MemoryBanks : IDisposable
{
    private readonly MemoryBank[] _banks;
    private readonly ulong[] _firsts;
    private readonly NativeBlock[] _blocks;

    // The first bank in a form the fast path likes. The lengths are cut to whole 8-byte words: an aligned word that
    // starts below them also ends inside the bank. The few bytes after them take the slow path.
    internal byte* FirstStart;
    internal ulong FirstAddress;
    internal ulong FirstLength;
    internal ulong FirstWritableLength;

    /// <summary>
    /// Banks in any order; they must not overlap. The lowest one becomes the fast path, the others are searched for.
    /// </summary>
    /// <exception cref="ArgumentException">No bank, an empty or overlapping one, or one past its block's
    /// end.</exception>
    public MemoryBanks(params ReadOnlySpan<MemoryBank> banks)
    {
        _banks = banks.ToArray();
        Array.Sort(_banks, static (a, b) => a.First.CompareTo(b.First));
        if (_banks.Length == 0)
        {
            throw new ArgumentException("a machine needs at least one bank of memory", nameof(banks));
        }
        for (int i = 0; i < _banks.Length; i++)
        {
            MemoryBank bank = _banks[i];
            if (!bank.First.IsAligned(12))
            {
                throw new ArgumentException($"the bank at {bank.First} does not start on a page", nameof(banks));
            }
            if (bank.Length == 0 || bank.Offset > bank.Block.Length || bank.Block.Length - bank.Offset < bank.Length)
            {
                throw new ArgumentException(
                    $"the bank at {bank.First} is empty or passes the end of its block", nameof(banks));
            }
            if (i > 0 && _banks[i - 1].Range.Overlaps(bank.Range))
            {
                throw new ArgumentException(
                    $"the bank at {bank.First} overlaps the one at {_banks[i - 1].First}", nameof(banks));
            }
        }
        _firsts = [.. _banks.Select(static b => b.First.Value)];
        _blocks = [.. _banks.Select(static b => b.Block).Distinct()];
        FirstStart = _banks[0].Block.Start + _banks[0].Offset;
        FirstAddress = _banks[0].First.Value;
        FirstLength = _banks[0].Length & ~7UL;
        FirstWritableLength = _banks[0].Writable ? FirstLength : 0;
    }

    /// <summary>The memory, for everyone who may read and write it.</summary>
    public PhysicalMemory Memory => new(this);

    /// <summary>The banks, lowest address first.</summary>
    public ReadOnlySpan<MemoryBank> Banks => _banks;

    /// <summary>A pointer to <paramref name="length"/> bytes in a bank other than the first, or null.</summary>
    internal byte* FindElsewhere(ulong address, ulong length, bool write)
    {
        // The last bank that begins at or below the address is the only one that can hold it.
        int low = 0;
        int high = _firsts.Length - 1;
        while (low < high)
        {
            int middle = (low + high + 1) >> 1;
            if (_firsts[middle] <= address) { low = middle; }
            else { high = middle - 1; }
        }
        MemoryBank bank = _banks[low];
        ulong offset = unchecked(address - bank.First.Value);
        return offset < bank.Length && bank.Length - offset >= length && bank.Block.Length != 0
            && (bank.Writable || !write)
                ? bank.Block.Start + bank.Offset + offset
                : null;
    }

    /// <summary>
    /// Frees the blocks. Every user of <see cref="Memory"/> must have stopped; later accesses find no memory.
    /// </summary>
    public void Dispose()
    {
        FirstLength = 0;
        FirstWritableLength = 0;
        foreach (NativeBlock block in _blocks) { block.Dispose(); }
    }
}
