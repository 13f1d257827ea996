using System.Buffers;
using System.Buffers.Text;

namespace Sluice.Machines.Qtest;

public sealed partial class QtestClient
{
    // Big enough to be fast, small enough that no side has to hold much text.
    private const int BlockBytes = 64 << 10;

    /// <summary>One 8-bit read on the processor's bus: memory or a register.</summary>
    /// <exception cref="QtestException">The connection broke, as for all commands here.</exception>
    public byte Read8(PhysicalAddress address) => (byte)Number("readb"u8, address.Value);

    /// <summary>One 16-bit read on the processor's bus.</summary>
    public ushort Read16(PhysicalAddress address) => (ushort)Number("readw"u8, address.Value);

    /// <summary>One 32-bit read on the processor's bus.</summary>
    public uint Read32(PhysicalAddress address) => (uint)Number("readl"u8, address.Value);

    /// <summary>One 64-bit read on the processor's bus.</summary>
    public ulong Read64(PhysicalAddress address) => Number("readq"u8, address.Value);

    /// <summary>One 8-bit write on the processor's bus.</summary>
    public void Write8(PhysicalAddress address, byte value) => Tell("writeb"u8, address.Value, value);

    /// <summary>One 16-bit write on the processor's bus.</summary>
    public void Write16(PhysicalAddress address, ushort value) => Tell("writew"u8, address.Value, value);

    /// <summary>One 32-bit write on the processor's bus.</summary>
    public void Write32(PhysicalAddress address, uint value) => Tell("writel"u8, address.Value, value);

    /// <summary>One 64-bit write on the processor's bus.</summary>
    public void Write64(PhysicalAddress address, ulong value) => Tell("writeq"u8, address.Value, value);

    /// <summary>As <see cref="Write32"/>, but the answer is collected later.</summary>
    public void PostWrite32(PhysicalAddress address, uint value) => Post("writel"u8, address.Value, value);

    /// <summary>As <see cref="Write64"/>, but the answer is collected later: for page tables.</summary>
    public void PostWrite64(PhysicalAddress address, ulong value) => Post("writeq"u8, address.Value, value);

    /// <summary>As <see cref="Read32"/>, but the answer comes with <see cref="Collect"/>.</summary>
    public void PostRead32(PhysicalAddress address) => Post("readl"u8, address.Value);

    /// <summary>As <see cref="Read64"/>, but the answer comes with <see cref="Collect"/>.</summary>
    public void PostRead64(PhysicalAddress address) => Post("readq"u8, address.Value);

    /// <summary>As <see cref="StepClock"/>, but nobody is told the time.</summary>
    public void PostStepClock(long nanoseconds) => Post("clock_step"u8, checked((ulong)nanoseconds), wanted: false);

    /// <summary>One 8-bit port read.</summary>
    public byte In8(ushort port) => (byte)Number("inb"u8, port);

    /// <summary>One 16-bit port read.</summary>
    public ushort In16(ushort port) => (ushort)Number("inw"u8, port);

    /// <summary>One 32-bit port read.</summary>
    public uint In32(ushort port) => (uint)Number("inl"u8, port);

    /// <summary>One 8-bit port write.</summary>
    public void Out8(ushort port, byte value) => Tell("outb"u8, port, value);

    /// <summary>One 16-bit port write.</summary>
    public void Out16(ushort port, ushort value) => Tell("outw"u8, port, value);

    /// <summary>One 32-bit port write.</summary>
    public void Out32(ushort port, uint value) => Tell("outl"u8, port, value);

    /// <summary>
    /// Moves the virtual clock forward, firing the timers on the way; the clock afterwards, in nanoseconds.
    /// </summary>
    public long StepClock(long nanoseconds)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(nanoseconds);
        lock (_gate)
        {
            Begin("clock_step"u8);
            Argument((ulong)nanoseconds);
            return (long)ParseNumber(Ask());
        }
    }

    /// <summary>
    /// Diverts the interrupt inputs of the device at <paramref name="path"/> in the machine's object tree to this
    /// client.
    /// </summary>
    /// <exception cref="QtestException">No such device, or another one is diverted already.</exception>
    public void InterceptInterruptsInto(string path) => Command($"irq_intercept_in {path}");

    /// <summary>Reads bytes from the processor's bus, 64 KiB a command.</summary>
    public void ReadBlock(PhysicalAddress address, Span<byte> destination)
    {
        lock (_gate)
        {
            while (!destination.IsEmpty)
            {
                Span<byte> piece = destination[..Math.Min(destination.Length, BlockBytes)];
                Begin("b64read"u8);
                Argument(address.Value);
                Argument((ulong)piece.Length);
                ReadOnlySpan<byte> answer = Ask();
                if (Base64.DecodeFromUtf8(answer, piece, out int consumed, out int written) != OperationStatus.Done
                    || consumed != answer.Length || written != piece.Length)
                {
                    throw Break(
                        $"answered {answer.Length} characters of base64 where {piece.Length} bytes were asked for");
                }
                address += (ulong)piece.Length;
                destination = destination[piece.Length..];
            }
        }
    }

    /// <summary>Writes bytes on the processor's bus, 64 KiB a command.</summary>
    public void WriteBlock(PhysicalAddress address, ReadOnlySpan<byte> source)
    {
        lock (_gate)
        {
            while (!source.IsEmpty)
            {
                ReadOnlySpan<byte> piece = source[..Math.Min(source.Length, BlockBytes)];
                Begin("b64write"u8);
                Argument(address.Value);
                Argument((ulong)piece.Length);
                Put(" "u8);
                Reserve(Base64.GetMaxEncodedToUtf8Length(piece.Length));
                Base64.EncodeToUtf8(piece, _output.AsSpan(_outputLength), out _, out int written);
                _outputLength += written;
                Ask();
                address += (ulong)piece.Length;
                source = source[piece.Length..];
            }
        }
    }

    /// <summary>Fills bytes on the processor's bus.</summary>
    public void Fill(PhysicalAddress address, ulong length, byte value)
    {
        lock (_gate)
        {
            Begin("memset"u8);
            Argument(address.Value);
            Argument(length);
            Argument(value);
            Ask();
        }
    }

    private ulong Number(ReadOnlySpan<byte> verb, ulong address)
    {
        lock (_gate)
        {
            Begin(verb);
            Argument(address);
            return ParseNumber(Ask());
        }
    }

    private void Tell(ReadOnlySpan<byte> verb, ulong address, ulong value)
    {
        lock (_gate)
        {
            Begin(verb);
            Argument(address);
            Argument(value);
            Ask();
        }
    }

    private void Post(ReadOnlySpan<byte> verb, ulong first, bool wanted = true)
    {
        lock (_gate)
        {
            Begin(verb);
            Argument(first);
            Post(wanted);
        }
    }

    private void Post(ReadOnlySpan<byte> verb, ulong address, ulong value)
    {
        lock (_gate)
        {
            Begin(verb);
            Argument(address);
            Argument(value);
            Post(wanted: false);
        }
    }
}
