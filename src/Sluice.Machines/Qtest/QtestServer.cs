using System.Buffers.Binary;
using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace Sluice.Machines.Qtest;

/// <summary>
/// The machine's side of a qtest connection: reads a command a line, answers <c>OK …</c> or <c>FAIL reason</c>, and
/// before that tells of intercepted wires that changed. Whatever a client sends, the server goes on to the next line;
/// when the client goes, it ends.
/// </summary>
/// <remarks>
/// The commands, and the width of the numbers in the answers, are QEMU's. Where QEMU ends with an assertion (missing
/// arguments, impossible sizes) the answer here is <c>FAIL</c>. Empty lines are passed over without an answer, as
/// there.
/// </remarks>
internal sealed partial class QtestServer(Socket socket, IQtestTarget target)
{
    /// <summary>A longer line is refused as a whole; it is read to its end but not kept.</summary>
    public const int LongestLine = 4 << 20;

    /// <summary>The most bytes that one command moves.</summary>
    public const int LargestBlock = 16 << 20;

    private byte[] _input = new byte[64 << 10];
    private int _start;
    private int _end;

    /// <summary>Answers until the client closes the connection or vanishes.</summary>
    public void Serve()
    {
        try
        {
            while (TryReadLine(out string line))
            {
                if (line.Length == 0) { continue; }
                string answer = Answer(line);
                SendAll(Encoding.ASCII.GetBytes($"{TakeNotices()}{answer}\n"));
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The client is gone, and with it everybody who could be told.
        }
        finally { target.WireChanged = null; }
    }

    /// <summary>One command; never throws.</summary>
    public string Answer(string line)
    {
        string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        if (words.Length == 0) { return "FAIL Empty command"; }
        try
        {
            return Execute(words[0], words.AsSpan(1));
        }
        catch (Exception e)
        {
            return $"FAIL {e.Message.ReplaceLineEndings(" ")}";
        }
    }

    private string Execute(string verb, ReadOnlySpan<string> arguments)
    {
        switch (verb)
        {
            case "readb" or "readw" or "readl" or "readq":
                return $"OK 0x{target.Read(new(Number(arguments, 0)), Width(verb)):x16}";
            case "writeb" or "writew" or "writel" or "writeq":
                target.Write(new(Number(arguments, 0)), Width(verb), Number(arguments, 1));
                return "OK";
            case "inb" or "inw" or "inl":
                return $"OK 0x{target.In(Port(arguments), Width(verb)):x4}";
            case "outb" or "outw" or "outl":
                target.Out(Port(arguments), Width(verb), (uint)Number(arguments, 1));
                return "OK";
            case "read":
                return $"OK 0x{Convert.ToHexStringLower(ReadBlock(arguments))}";
            case "b64read":
                return $"OK {Convert.ToBase64String(ReadBlock(arguments))}";
            case "write":
                WriteBlock(arguments, Hex(Word(arguments, 2)));
                return "OK";
            case "b64write":
                WriteBlock(arguments, Convert.FromBase64String(Word(arguments, 2)));
                return "OK";
            case "memset":
                byte[] filled = new byte[Size(arguments)];
                filled.AsSpan().Fill((byte)Number(arguments, 2));
                target.Write(new(Number(arguments, 0)), filled);
                return "OK";
            case "endianness":
                return "OK little";
            case "clock_step":
                return Advance(arguments.IsEmpty ? target.NextTimer ?? target.Now
                    : Sum(target.Now, Number(arguments, 0)));
            case "clock_set":
                return Advance((long)Math.Min(Number(arguments, 0), long.MaxValue));
            case "irq_intercept_in" or "irq_intercept_out":
                return Intercept(Word(arguments, 0), isIn: verb is "irq_intercept_in", isNamed: arguments.Length > 1);
            default:
                return $"FAIL Unknown command '{(verb.Length > 64 ? verb[..64] : verb)}'";
        }
    }

    private string Advance(long time)
    {
        if (time <= target.Now) { return "FAIL could not advance time"; }
        target.AdvanceTo(time);
        return string.Create(CultureInfo.InvariantCulture, $"OK {target.Now}");
    }

    private byte[] ReadBlock(ReadOnlySpan<string> arguments)
    {
        byte[] bytes = new byte[Size(arguments)];
        target.Read(new(Number(arguments, 0)), bytes);
        return bytes;
    }

    /// <summary>As QEMU: what is missing of the data is zero, what is too much is left.</summary>
    private void WriteBlock(ReadOnlySpan<string> arguments, byte[] data)
    {
        Array.Resize(ref data, Size(arguments));
        target.Write(new(Number(arguments, 0)), data);
    }

    private static int Size(ReadOnlySpan<string> arguments)
    {
        ulong size = Number(arguments, 1);
        return size <= LargestBlock ? (int)size
            : throw new FormatException($"{size} bytes are more than {LargestBlock} at once");
    }

    private static ushort Port(ReadOnlySpan<string> arguments)
    {
        ulong port = Number(arguments, 0);
        return port <= ushort.MaxValue ? (ushort)port : throw new FormatException($"0x{port:x} is no port");
    }

    private static int Width(string verb) => verb[^1] switch { 'b' => 1, 'w' => 2, 'l' => 4, _ => 8 };

    private static string Word(ReadOnlySpan<string> arguments, int index) =>
        index < arguments.Length ? arguments[index] : throw new FormatException($"argument {index + 1} is missing");

    private static byte[] Hex(string word) =>
        word.StartsWith("0x", StringComparison.Ordinal) ? Convert.FromHexString(word.AsSpan(2))
            : throw new FormatException("data begins with 0x");

    /// <summary>As C reads it: 0x is hexadecimal, a leading 0 octal, the rest decimal.</summary>
    private static ulong Number(ReadOnlySpan<string> arguments, int index)
    {
        string word = Word(arguments, index);
        bool isHex = word.StartsWith("0x", StringComparison.OrdinalIgnoreCase);
        if (isHex && ulong.TryParse(word.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture,
            out ulong value)) { return value; }
        if (!isHex && word.Length > 1 && word[0] == '0' && word.AsSpan().IndexOfAnyExceptInRange('0', '7') < 0
            && word.Length < 22)
        {
            return Convert.ToUInt64(word, 8);
        }
        return !isHex && ulong.TryParse(word, NumberStyles.None, CultureInfo.InvariantCulture, out value)
            ? value
            : throw new FormatException($"'{(word.Length > 32 ? word[..32] : word)}' is no number");
    }

    private static long Sum(long now, ulong step) =>
        step > (ulong)(long.MaxValue - now) ? long.MaxValue : now + (long)step;

    private bool TryReadLine(out string line)
    {
        bool tooLong = false;
        while (true)
        {
            int length = _input.AsSpan(_start, _end - _start).IndexOf((byte)'\n');
            if (length >= 0)
            {
                ReadOnlySpan<byte> text = _input.AsSpan(_start, length);
                line = tooLong ? "line-too-long" : Encoding.ASCII.GetString(text).TrimEnd('\r');
                _start += length + 1;
                return true;
            }
            if (tooLong || _end - _start > LongestLine)
            {
                tooLong = true;
                _start = _end;
            }
            MakeRoom();
            int received = socket.Receive(_input.AsSpan(_end));
            if (received == 0)
            {
                line = "";
                return false;
            }
            _end += received;
        }
    }

    private void MakeRoom()
    {
        if (_start == _end) { (_start, _end) = (0, 0); }
        if (_end < _input.Length) { return; }
        int kept = _end - _start;
        byte[] room = kept > _input.Length / 2 ? new byte[_input.Length * 2] : _input;
        Array.Copy(_input, _start, room, 0, kept);
        (_start, _end, _input) = (0, kept, room);
    }

    private void SendAll(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty) { bytes = bytes[socket.Send(bytes)..]; }
    }
}
