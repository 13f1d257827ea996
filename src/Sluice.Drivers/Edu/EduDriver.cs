using Sluice.Dma;

namespace Sluice.Drivers.Edu;

/// <summary>
/// QEMU's educational device (1234:11e8): it inverts, computes factorials, and copies between memory and a buffer of
/// 4 KiB of its own. The smallest complete DMA driver, and, through <see cref="TransferRaw"/>, the worst one.
/// </summary>
/// <remarks>
/// Polls, each wait bounded by the timeout. Safe from any thread; one operation runs at a time. After a transfer that
/// did not end, the device is given up: its mapping stays with the adapter, which reports and quarantines it when it is
/// disposed.
/// </remarks>
public sealed class EduDriver
{
    /// <summary>Bytes in the device's own buffer.</summary>
    public const int BufferBytes = 4096;

    private const uint IdentificationRegister = 0x00, Liveness = 0x04, FactorialRegister = 0x08, Status = 0x20;
    private const uint Source = 0x80, Destination = 0x88, Count = 0x90, Command = 0x98;
    private const uint Computing = 1;
    private const ulong Run = 1, ToMemory = 2;
    private const ulong BufferStart = 0x4_0000;

    private readonly DeviceResources _resources;
    private readonly RegisterWindow _registers;
    private readonly long _timeout;
    private readonly Lock _lock = new();
    private bool _isGivenUp;

    private EduDriver(DeviceResources resources, long timeout)
    {
        (_resources, _registers, _timeout) = (resources, resources.Registers, timeout);
        Identification = _registers.Read32(IdentificationRegister);
    }

    /// <summary>What the device says it is: 0xRRrr_00ED, version RR.rr.</summary>
    public uint Identification { get; }

    /// <summary>Takes the device over.</summary>
    /// <param name="resources">The device. The adapter is not disposed here; its description says what the device
    /// drives.</param>
    /// <param name="timeout">How long one operation may take, in nanoseconds; a transfer usually takes 100 ms.</param>
    /// <exception cref="IOException">It is no edu device.</exception>
    public static EduDriver Start(DeviceResources resources, long timeout = 1_000_000_000)
    {
        ArgumentNullException.ThrowIfNull(resources);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(timeout);
        EduDriver edu = new(resources, timeout);
        const uint Signature = 0xED;
        return (edu.Identification & 0xFFFF) == Signature
            ? edu
            : throw new IOException($"no edu device answers: 0x{edu.Identification:X8}");
    }

    /// <summary>Whether the device inverts a word given to it.</summary>
    public bool IsAlive(uint word = 0x5A5A_1234)
    {
        lock (_lock)
        {
            _registers.Write32(Liveness, word);
            return _registers.Read32(Liveness) == ~word;
        }
    }

    /// <summary>Has the device compute n! modulo 2^32.</summary>
    /// <exception cref="TimeoutException">It does not end.</exception>
    public uint Factorial(uint n)
    {
        lock (_lock)
        {
            _registers.Write32(FactorialRegister, n);
            Deadline limit = Deadline.In(_resources.Platform.Clock, _timeout);
            for (; (_registers.Read32(Status) & Computing) != 0; limit.Relax())
            {
                if (limit.HasPassed)
                {
                    throw new TimeoutException($"the edu device does not end its factorial of {n}");
                }
            }
            return _registers.Read32(FactorialRegister);
        }
    }

    /// <summary>Copies from memory into the device's buffer.</summary>
    /// <param name="source">The memory; it is mapped for reading while the transfer runs.</param>
    /// <param name="offset">Its first byte.</param>
    /// <param name="length">Bytes; with <paramref name="bufferOffset"/> inside the device's buffer.</param>
    /// <param name="bufferOffset">The first byte in the device's buffer.</param>
    /// <exception cref="TimeoutException">The transfer does not end.</exception>
    /// <exception cref="DmaException">The memory cannot be mapped.</exception>
    public void CopyIn(Mdl source, uint offset, int length, int bufferOffset = 0) =>
        Copy(source, offset, length, bufferOffset, DmaDirection.ToDevice, "CopyIn");

    /// <summary>Copies from the device's buffer to memory. Parameters and errors as <see cref="CopyIn"/>.</summary>
    public void CopyOut(Mdl destination, uint offset, int length, int bufferOffset = 0) =>
        Copy(destination, offset, length, bufferOffset, DmaDirection.FromDevice, "CopyOut");

    /// <summary>
    /// What a broken driver does: has the device read or write at any logical address, mapped or not. A refused
    /// transfer looks like a good one from here; the device knows no errors.
    /// </summary>
    /// <param name="address">Where; the device cuts it to the bits it drives.</param>
    /// <param name="length">Bytes; with <paramref name="bufferOffset"/> inside the device's buffer.</param>
    /// <param name="direction">To the device's buffer, or from it.</param>
    /// <param name="bufferOffset">The first byte in the device's buffer.</param>
    /// <exception cref="TimeoutException">The transfer does not end.</exception>
    public void TransferRaw(LogicalAddress address, int length, DmaDirection direction, int bufferOffset = 0)
    {
        if (direction is not (DmaDirection.ToDevice or DmaDirection.FromDevice))
        {
            throw new ArgumentOutOfRangeException(nameof(direction), "a transfer goes one way");
        }
        ArgumentOutOfRangeException.ThrowIfNegative(bufferOffset);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, BufferBytes - bufferOffset);
        lock (_lock)
        {
            ThrowIfGivenUp();
            ulong inside = BufferStart + (uint)bufferOffset;
            bool toMemory = direction == DmaDirection.FromDevice;
            _registers.Write64(Source, toMemory ? inside : address.Value);
            _registers.Write64(Destination, toMemory ? address.Value : inside);
            _registers.Write64(Count, (uint)length);
            _registers.Write64(Command, Run | (toMemory ? ToMemory : 0));
            Deadline limit = Deadline.In(_resources.Platform.Clock, _timeout);
            for (; (_registers.Read64(Command) & Run) != 0; limit.Relax())
            {
                if (!limit.HasPassed) { continue; }
                _isGivenUp = true;
                throw new TimeoutException($"the edu device does not end its transfer of {length} bytes at {address}");
            }
        }
    }

    private void Copy(Mdl memory, uint offset, int length, int bufferOffset, DmaDirection direction, string site)
    {
        ArgumentNullException.ThrowIfNull(memory);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        ThrowIfGivenUp();
        DmaAdapter adapter = _resources.Adapter;
        if (!adapter.TryGetScatterGatherList(
            memory, offset, (uint)length, direction, out ScatterGatherLease list, site: site))
        {
            throw new DmaException(
                DmaFailure.OutOfResources, $"{length} bytes cannot be mapped for the edu device now");
        }
        try
        {
            int at = bufferOffset;
            foreach (ScatterGatherElement element in list)
            {
                TransferRaw(element.Address, (int)element.Length, direction, at);
                at += (int)element.Length;
            }
        }
        finally
        {
            // A device that may still be writing keeps its mapping.
            if (!_isGivenUp) { adapter.PutScatterGatherList(list, site); }
        }
    }

    private void ThrowIfGivenUp()
    {
        if (_isGivenUp) { throw new TimeoutException("the edu device was given up: an earlier transfer did not end"); }
    }
}
