using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Sluice;

/// <summary>
/// The memory of a machine as silicon, operating-system side, devices and drivers use it: a handle to its
/// <see cref="MemoryBanks"/>, one pointer wide. Safe from any thread; words are single accesses.
/// </summary>
/// <remarks>
/// Little-endian hosts only. A word load is about a nanosecond: one range check and one move.
/// Stores to read-only banks (a dump) are refused like stores to no memory.
/// </remarks>
public readonly unsafe partial struct PhysicalMemory : IPhysicalMemory, IEquatable<PhysicalMemory>
{
    private readonly MemoryBanks _banks;

    internal PhysicalMemory(MemoryBanks banks) => _banks = banks;

    /// <summary>The banks, lowest address first.</summary>
    public ReadOnlySpan<MemoryBank> Banks => _banks.Banks;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryRead64(PhysicalAddress address, out ulong value)
    {
        MemoryBanks banks = _banks;
        ulong offset = unchecked(address.Value - banks.FirstAddress);
        if (offset < banks.FirstLength && (address.Value & (sizeof(ulong) - 1)) == 0)
        {
            value = Volatile.Read(ref *(ulong*)(banks.FirstStart + offset));
            return true;
        }
        // The value goes through no out parameter of a call: it would live in memory on the fast path, too.
        byte* p = Elsewhere64(banks, address.Value);
        value = p == null ? 0 : Volatile.Read(ref *(ulong*)p);
        return p != null;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static byte* Elsewhere64(MemoryBanks banks, ulong address) =>
        (address & (sizeof(ulong) - 1)) != 0 ? null : banks.FindElsewhere(address, sizeof(ulong), write: false);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryWrite64(PhysicalAddress address, ulong value)
    {
        byte* p = Word(address.Value, sizeof(ulong), write: true);
        if (p == null) { return false; }
        Volatile.Write(ref *(ulong*)p, value);
        return true;
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryCompareExchange64(PhysicalAddress address, ulong comparand, ulong value, out ulong observed)
    {
        byte* p = Word(address.Value, sizeof(ulong), write: true);
        observed = p == null ? 0 : Interlocked.CompareExchange(ref *(ulong*)p, value, comparand);
        return p != null;
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryRead32(PhysicalAddress address, out uint value)
    {
        byte* p = Word(address.Value, sizeof(uint), write: false);
        value = p == null ? 0 : Volatile.Read(ref *(uint*)p);
        return p != null;
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryWrite32(PhysicalAddress address, uint value)
    {
        byte* p = Word(address.Value, sizeof(uint), write: true);
        if (p == null) { return false; }
        Volatile.Write(ref *(uint*)p, value);
        return true;
    }

    /// <inheritdoc/>
    public bool TryRead(PhysicalAddress address, Span<byte> destination)
    {
        byte* p = Find(address.Value, (ulong)destination.Length, write: false);
        if (p == null) { return destination.IsEmpty; }
        new ReadOnlySpan<byte>(p, destination.Length).CopyTo(destination);
        return true;
    }

    /// <inheritdoc/>
    public bool TryWrite(PhysicalAddress address, ReadOnlySpan<byte> source)
    {
        byte* p = Find(address.Value, (ulong)source.Length, write: true);
        if (p == null) { return source.IsEmpty; }
        source.CopyTo(new Span<byte>(p, source.Length));
        return true;
    }

    /// <summary>
    /// As <see cref="TryWrite"/>, but a multiple of 8 bytes at an 8-byte boundary becomes ascending 64-bit stores, so
    /// that who sees the last word sees them all: what a device does with a completion entry.
    /// </summary>
    public bool TryWriteInOrder(PhysicalAddress address, ReadOnlySpan<byte> source)
    {
        if (((address.Value | (uint)source.Length) & 7) != 0) { return TryWrite(address, source); }
        byte* p = Find(address.Value, (ulong)source.Length, write: true);
        if (p == null) { return source.IsEmpty; }
        foreach (ulong word in MemoryMarshal.Cast<byte, ulong>(source))
        {
            Volatile.Write(ref *(ulong*)p, word);
            p += sizeof(ulong);
        }
        return true;
    }

    /// <summary>
    /// The bytes themselves. They are shared: devices and other threads may change them at any time, and the span must
    /// not outlive the machine.
    /// </summary>
    /// <returns>False unless all <paramref name="length"/> bytes lie in one writable bank.</returns>
    public bool TryGetSpan(PhysicalAddress address, int length, out Span<byte> span)
    {
        byte* p = Find(address.Value, (ulong)length, write: true);
        span = p == null ? default : new(p, length);
        return p != null;
    }

    /// <summary>Whether the whole range is memory of one bank.</summary>
    public bool Contains(PhysicalRange range) =>
        range.Length != 0 && Find(range.First.Value, range.Length, write: false) != null;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private byte* Word(ulong address, uint size, bool write)
    {
        MemoryBanks banks = _banks;
        ulong offset = unchecked(address - banks.FirstAddress);
        if ((address & (size - 1)) != 0) { return null; }
        return offset < (write ? banks.FirstWritableLength : banks.FirstLength)
            ? banks.FirstStart + offset
            : banks.FindElsewhere(address, size, write);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private byte* Find(ulong address, ulong length, bool write)
    {
        MemoryBanks banks = _banks;
        ulong offset = unchecked(address - banks.FirstAddress);
        ulong limit = write ? banks.FirstWritableLength : banks.FirstLength;
        return offset < limit && limit - offset >= length
            ? banks.FirstStart + offset
            : banks.FindElsewhere(address, length, write);
    }

    /// <inheritdoc/>
    public bool Equals(PhysicalMemory other) => ReferenceEquals(_banks, other._banks);

    /// <inheritdoc/>
    public override bool Equals([NotNullWhen(true)] object? obj) => obj is PhysicalMemory other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => RuntimeHelpers.GetHashCode(_banks);

    /// <summary>Whether both are the same machine's memory.</summary>
    public static bool operator ==(PhysicalMemory left, PhysicalMemory right) => left.Equals(right);

    /// <summary>Whether they are different machines' memories.</summary>
    public static bool operator !=(PhysicalMemory left, PhysicalMemory right) => !left.Equals(right);
}
