using System.Buffers;
using System.Buffers.Text;
using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace Sluice.Machines.Qtest;

/// <summary>
/// The machine's side of a qtest connection: reads a command a line, answers <c>OK …</c>, <c>FAIL reason</c> or
/// <c>ERR reason</c>, and before that tells of intercepted wires that changed. Whatever a client sends, the server goes
/// on to the next line; when the client goes, it ends.
/// </summary>
/// <remarks>
/// The commands, what they take and how wide the numbers in the answers are is QEMU's, seen on QEMU 11. Where QEMU ends
/// with an assertion (missing arguments, what is no number, a read of no bytes) the answer here is <c>FAIL</c>. Empty
/// lines and comments are passed over without an answer, as there.
/// </remarks>
/// <param name="socket">The connection; stays the caller's.</param>
/// <param name="target">The machine.</param>
/// <param name="gate">Held while a command runs: whoever else touches the machine takes it too.</param>
internal sealed partial class QtestServer(Socket socket, IQtestTarget target, Lock gate)
{
    /// <summary>The most bytes that one command moves.</summary>
    public const int LargestBlock = 16 << 20;

    /// <summary>
    /// The largest block in hexadecimal, with its command. A longer line is refused as a whole; it is read to its end
    /// but not kept.
    /// </summary>
    public const int LongestLine = 2 * LargestBlock + 256;

    private const int UsualRoom = 64 << 10;
    private const int KeptRoom = 1 << 20;
    private byte[] _input = new byte[UsualRoom];
    private int _start;
    private int _end;
    private ArrayBufferWriter<byte> _output = new(UsualRoom);

    /// <summary>Answers until the client closes the connection or vanishes.</summary>
    public void Serve()
    {
        try
        {
            while (TryReadLine(out ReadOnlySpan<byte> line, out bool isTooLong))
            {
                QtestLine command = new(line);
                if (isTooLong) { Reply($"FAIL a line is longer than {LongestLine} characters"); }
                else if (command.IsSilent) { continue; }
                else { Answer(command); }
                _output.Write("\n"u8);
                SendAll(_output.WrittenSpan);
                if (_output.Capacity > KeptRoom) { _output = new(UsualRoom); } else { _output.ResetWrittenCount(); }
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The client is gone, and with it everybody who could be told.
        }
        finally
        {
            lock (gate) { target.WireChanged = null; }
        }
    }

    /// <summary>One command, into the output; never throws.</summary>
    private void Answer(QtestLine line)
    {
        lock (gate)
        {
            byte[]? block = null;
            string answer;
            try
            {
                answer = Execute(line, out block);
            }
            catch (Exception e)
            {
                answer = $"FAIL {e.Message.ReplaceLineEndings(" ")}";
            }
            Reply($"{TakeNotices()}{answer}");
            if (block is not null) { ReplyBlock(block, isBase64: line.Verb[0] == (byte)'b'); }
        }
    }

    /// <summary>A block that was read comes back apart: it is text only in the output.</summary>
    private string Execute(QtestLine line, out byte[]? block)
    {
        block = null;
        ReadOnlySpan<byte> verb = line.Verb;
        switch (verb.Length <= 32 ? Encoding.Latin1.GetString(verb) : "")
        {
            case "readb" or "readw" or "readl" or "readq":
                return $"OK 0x{target.Read(new(line.Unsigned(1)), Width(verb)):x16}";
            case "writeb" or "writew" or "writel" or "writeq":
                target.Write(new(line.Unsigned(1)), Width(verb), line.Unsigned(2));
                return "OK";
            case "inb" or "inw" or "inl":
                return $"OK 0x{target.In(Port(line), Width(verb)):x4}";
            case "outb" or "outw" or "outl":
                target.Out(Port(line), Width(verb), (uint)line.Unsigned(2));
                return "OK";
            case "read":
                if (line.Unsigned(2) == 0) { throw new FormatException("there is nothing to read in 0 bytes"); }
                block = ReadBlock(line);
                return "OK 0x";
            case "b64read":
                block = ReadBlock(line);
                return "OK ";
            case "write" or "b64write":
                return WriteBlock(line, isBase64: verb[0] == (byte)'b');
            case "memset":
                byte[] filled = new byte[Size(line)];
                filled.AsSpan().Fill((byte)line.Unsigned(3));
                target.Write(new(line.Unsigned(1)), filled);
                return "OK";
            case "endianness":
                return "OK little";
            case "clock_step":
                long step = line.Has(1) ? line.Signed(1) : (target.NextTimer ?? target.Now) - target.Now;
                return step > 0 ? AdvanceTo(step > long.MaxValue - target.Now ? long.MaxValue : target.Now + step)
                    : "FAIL could not advance time";
            case "clock_set":
                return AdvanceTo(line.Signed(1));
            case "irq_intercept_in" or "irq_intercept_out":
                return Intercept(Encoding.Latin1.GetString(line.Word(1)), isIn: verb[^1] == (byte)'n',
                    isNamed: line.Has(2));
            default:
                return $"FAIL Unknown command '{Encoding.Latin1.GetString(verb)}'";
        }
    }

    /// <summary>Says what time it is then; a time that has passed is a failure.</summary>
    private string AdvanceTo(long time)
    {
        bool hasPassed = time < target.Now;
        if (time > target.Now) { target.AdvanceTo(time); }
        return string.Create(CultureInfo.InvariantCulture, $"{(hasPassed ? "FAIL" : "OK")} {target.Now}");
    }

    private byte[] ReadBlock(QtestLine line)
    {
        byte[] bytes = new byte[Size(line)];
        target.Read(new(line.Unsigned(1)), bytes);
        return bytes;
    }

    private string WriteBlock(QtestLine line, bool isBase64)
    {
        const int ShortestData = 3;
        PhysicalAddress address = new(line.Unsigned(1));
        ReadOnlySpan<byte> data = line.Word(3);
        int size = Size(line);
        if (data.Length < ShortestData) { return "ERR invalid argument size"; }
        target.Write(address, isBase64 ? QtestLine.FromBase64(data, size) : QtestLine.FromHex(data, size));
        return "OK";
    }

    private static int Size(QtestLine line)
    {
        ulong size = line.Unsigned(2);
        return size <= LargestBlock ? (int)size
            : throw new FormatException($"{size} bytes are more than {LargestBlock} at once");
    }

    private static ushort Port(QtestLine line)
    {
        ulong port = line.Unsigned(1);
        return port <= ushort.MaxValue ? (ushort)port : throw new FormatException($"0x{port:x} is no port");
    }

    private static int Width(ReadOnlySpan<byte> verb) => verb[^1] switch
    {
        (byte)'b' => 1,
        (byte)'w' => 2,
        (byte)'l' => 4,
        _ => 8,
    };

    private void Reply(string text)
    {
        Span<byte> room = _output.GetSpan(text.Length);
        _output.Advance(Encoding.Latin1.GetBytes(text, room));
    }

    private void ReplyBlock(byte[] block, bool isBase64)
    {
        int length = isBase64 ? Base64.GetMaxEncodedToUtf8Length(block.Length) : 2 * block.Length;
        Span<byte> room = _output.GetSpan(Math.Max(1, length));
        if (isBase64) { Base64.EncodeToUtf8(block, room, out _, out length); }
        else { Convert.TryToHexStringLower(block, room, out length); }
        _output.Advance(length);
    }

    /// <summary>The line is good until the next call.</summary>
    private bool TryReadLine(out ReadOnlySpan<byte> line, out bool isTooLong)
    {
        isTooLong = false;
        line = default;
        int searched = _start;
        while (true)
        {
            int length = _input.AsSpan(searched, _end - searched).IndexOf((byte)'\n');
            if (length >= 0)
            {
                length += searched - _start;
                line = _input.AsSpan(_start, length);
                _start += length + 1;
                return true;
            }
            if (isTooLong || _end - _start > LongestLine)
            {
                isTooLong = true;
                _start = _end;
            }
            int pending = _end - _start;
            MakeRoom();
            searched = _start + pending;
            int received = socket.Receive(_input.AsSpan(_end));
            if (received == 0) { return false; }
            _end += received;
        }
    }

    /// <summary>At least a byte behind what is pending; the room that a long line took is given back after
    /// it.</summary>
    private void MakeRoom()
    {
        int pending = _end - _start;
        if (_end < _input.Length && (pending != 0 || _input.Length <= KeptRoom)) { return; }
        int size = pending == 0 && _input.Length > KeptRoom ? UsualRoom
            : pending > _input.Length / 2 ? _input.Length * 2 : _input.Length;
        byte[] room = size == _input.Length ? _input : new byte[size];
        Array.Copy(_input, _start, room, 0, pending);
        (_start, _end, _input) = (0, pending, room);
    }

    private void SendAll(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty) { bytes = bytes[socket.Send(bytes)..]; }
    }
}
