using System.Runtime.CompilerServices;

namespace Sluice.Dma;

/// <summary>
/// Memory that the processor and the device use together for long: rings, descriptors, status words. One logical run
/// from a page boundary, over frames wherever they lie; its pages hold nothing else, unless it was made over an MDL.
/// </summary>
/// <remarks>
/// Words are single loads with acquire and single stores with release order, as a device at the other side expects;
/// offsets are aligned to the word. Safe from any thread. Dispose it when the device no longer uses it.
/// </remarks>
public sealed class CommonBuffer : IDisposable
{
    private const int PageLog2 = 12;
    private const uint PageMask = (1u << PageLog2) - 1;

    private readonly DmaAdapter _adapter;
    private readonly PhysicalMemory _memory;
    private readonly PhysicalAddress[] _pages;
    private readonly Mapping _mapping;
    private readonly long _number;

    internal CommonBuffer(DmaAdapter adapter, PhysicalMemory memory, Mapping mapping, long number)
    {
        (_adapter, _memory, _mapping, _number) = (adapter, memory, mapping, number);
        CommonMemory common = mapping.Common;
        (_pages, Address, Length) = (common.Pages, common.First, common.Length);
        PageSizes = common.Range.PageSizes;
        IsGuarded = common.Range.PageSizes != 0 && common.Range.Space.Taken != common.Range.Range;
    }

    /// <summary>What the device is told: the first byte on the bus.</summary>
    public LogicalAddress Address { get; }

    /// <summary>The last byte on the bus.</summary>
    public LogicalAddress LastAddress => Address + (Length - 1);

    /// <summary>Bytes.</summary>
    public ulong Length { get; }

    /// <summary>The sizes of the unit's entries behind it: bit n for 2^n bytes; 0 where nothing remaps.</summary>
    public ulong PageSizes { get; }

    /// <summary>
    /// Whether a closed page lies before it and one behind it, which nobody else gets while it lives.
    /// </summary>
    public bool IsGuarded { get; }

    /// <summary>Whether it still stands: not disposed, and its adapter neither.</summary>
    public bool IsLive => _mapping.IsLive(_number);

    internal DmaAdapter Adapter => _adapter;

    internal Mapping Mapping => _mapping;

    /// <summary>Whether it is one of a vector, which frees it.</summary>
    internal bool IsOfVector { get; set; }

    internal long Number => _number;

    /// <summary>One 32-bit load.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The word is unaligned or passes the end.</exception>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public uint Read32(ulong offset) => _memory.TryRead32(Word(offset, sizeof(uint)), out uint value) ? value : Gone();

    /// <summary>One 32-bit store.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The word is unaligned or passes the end.</exception>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Write32(ulong offset, uint value)
    {
        if (!_memory.TryWrite32(Word(offset, sizeof(uint)), value)) { Gone(); }
    }

    /// <summary>One 64-bit load.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The word is unaligned or passes the end.</exception>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong Read64(ulong offset) =>
        _memory.TryRead64(Word(offset, sizeof(ulong)), out ulong value) ? value : Gone();

    /// <summary>One 64-bit store.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The word is unaligned or passes the end.</exception>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Write64(ulong offset, ulong value)
    {
        if (!_memory.TryWrite64(Word(offset, sizeof(ulong)), value)) { Gone(); }
    }

    /// <summary>
    /// The bytes themselves, inside one page. The device may change them at any time; do not keep the span.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The bytes pass the end or cross a page.</exception>
    public Span<byte> GetSpan(ulong offset, int length)
    {
        if (length < 0 || offset > Length || Length - offset < (uint)length
            || (offset & PageMask) + (ulong)(uint)length > PageMask + 1)
        {
            throw new ArgumentOutOfRangeException(
                nameof(length),
                $"{length} bytes at offset {offset} cross a page or the end of a common buffer of {Length} bytes");
        }
        if (length == 0) { return default; }
        ThrowIfOver();
        return _memory.TryGetSpan(_pages[(int)(offset >> PageLog2)] + (offset & PageMask), length, out Span<byte> span)
            ? span : Broken();
    }

    /// <summary>Fills all of it with zeros.</summary>
    public void Clear()
    {
        for (ulong at = 0; at < Length; at += PageMask + 1)
        {
            GetSpan(at, (int)Math.Min(PageMask + 1, Length - at)).Clear();
        }
    }

    /// <summary>
    /// Makes it unreachable for the device, then gives its memory back. Harmless twice, and after a leak was
    /// reported.
    /// </summary>
    public void Dispose() => _adapter.FreeCommonBuffer(_mapping, _number);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private PhysicalAddress Word(ulong offset, uint size)
    {
        if ((offset & (size - 1)) != 0 || offset > Length - size || Length < size) { ThrowOutside(offset, size); }
        ThrowIfOver();
        return _pages[(int)(offset >> PageLog2)] + (offset & PageMask);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void ThrowIfOver()
    {
        if (!_mapping.IsLive(_number)) { Gone(); }
    }

    private void ThrowOutside(ulong offset, uint size) => throw new ArgumentOutOfRangeException(
        nameof(offset),
        $"a {size}-byte word at offset {offset} is unaligned or outside a common buffer of {Length} bytes");

    private uint Gone()
    {
        if (!IsLive) { _adapter.Verifier?.OnUsedAfterFree(_mapping, _number, "common buffer"); }
        throw new ObjectDisposedException(nameof(CommonBuffer));
    }

    private static Span<byte> Broken() =>
        throw new ObjectDisposedException(nameof(CommonBuffer), "the machine's memory is gone");
}
