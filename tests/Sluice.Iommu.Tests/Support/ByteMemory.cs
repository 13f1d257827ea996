using System.Runtime.InteropServices;

namespace Sluice.Iommu.Tests;

/// <summary>Memory as a stranger would bring it: an array, one access at a time, nothing wider than a word.</summary>
internal sealed class ByteMemory(byte[] bytes) : IPhysicalMemory
{
    public long Accesses { get; private set; }

    public bool TryRead64(PhysicalAddress address, out ulong value)
    {
        value = 0;
        if (!Has(address, 8, 8)) { return false; }
        value = Volatile.Read(ref At<ulong>(address));
        return true;
    }

    public bool TryWrite64(PhysicalAddress address, ulong value)
    {
        if (!Has(address, 8, 8)) { return false; }
        Volatile.Write(ref At<ulong>(address), value);
        return true;
    }

    public bool TryCompareExchange64(PhysicalAddress address, ulong comparand, ulong value, out ulong observed)
    {
        observed = 0;
        if (!Has(address, 8, 8)) { return false; }
        observed = Interlocked.CompareExchange(ref At<ulong>(address), value, comparand);
        return true;
    }

    public bool TryRead32(PhysicalAddress address, out uint value)
    {
        value = 0;
        if (!Has(address, 4, 4)) { return false; }
        value = Volatile.Read(ref At<uint>(address));
        return true;
    }

    public bool TryWrite32(PhysicalAddress address, uint value)
    {
        if (!Has(address, 4, 4)) { return false; }
        Volatile.Write(ref At<uint>(address), value);
        return true;
    }

    public bool TryRead(PhysicalAddress address, Span<byte> destination)
    {
        if (!Has(address, destination.Length, 1)) { return false; }
        bytes.AsSpan((int)address.Value, destination.Length).CopyTo(destination);
        return true;
    }

    public bool TryWrite(PhysicalAddress address, ReadOnlySpan<byte> source)
    {
        if (!Has(address, source.Length, 1)) { return false; }
        source.CopyTo(bytes.AsSpan((int)address.Value));
        return true;
    }

    private bool Has(PhysicalAddress address, int length, int alignment)
    {
        Accesses++;
        return address.Value <= (ulong)(bytes.Length - length) && address.Value % (uint)alignment == 0;
    }

    private ref T At<T>(PhysicalAddress address)
        where T : struct => ref MemoryMarshal.AsRef<T>(bytes.AsSpan((int)address.Value));
}
